//! Compression of layers, recognised by the first bytes as containerd does.

use std::io::{self, BufRead, Read, Write};

use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;

use crate::error::{During, Result};

/// How a layer blob is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    /// What every registry and engine takes.
    #[default]
    Gzip,
    Zstd,
}

impl Compression {
    /// The compression that the first bytes announce.
    pub(crate) fn of(head: &[u8]) -> Self {
        match head {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            _ => Self::None,
        }
    }
}

/// The plain bytes of a stream that may be compressed.
pub(crate) fn decompressed<'a>(mut stream: impl BufRead + 'a) -> Result<Box<dyn Read + 'a>> {
    let head = stream.fill_buf().during(|| "read layer".into())?;
    Ok(match Compression::of(head) {
        Compression::Gzip => Box::new(MultiGzDecoder::new(stream)),
        Compression::Zstd => {
            let decoder = zstd::Decoder::with_buffer(stream).during(|| "read layer".into())?;
            Box::new(decoder)
        }
        Compression::None => Box::new(stream),
    })
}

/// A writer that compresses; call `finish` to write the end.
pub(crate) enum Compressor<W: Write> {
    None(W),
    Gzip(GzEncoder<W>),
    Zstd(zstd::Encoder<'static, W>),
}

/// Compresses into a writer; the same bytes always give the same result.
pub(crate) fn compressed<W: Write>(writer: W, compression: Compression) -> io::Result<Compressor<W>> {
    Ok(match compression {
        Compression::None => Compressor::None(writer),
        Compression::Gzip => Compressor::Gzip(GzEncoder::new(writer, flate2::Compression::default())),
        Compression::Zstd => Compressor::Zstd(zstd::Encoder::new(writer, 0)?),
    })
}

impl<W: Write> Compressor<W> {
    pub(crate) fn finish(self) -> io::Result<W> {
        match self {
            Self::None(writer) => Ok(writer),
            Self::Gzip(encoder) => encoder.finish(),
            Self::Zstd(encoder) => encoder.finish(),
        }
    }
}

impl<W: Write> Write for Compressor<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self {
            Self::None(writer) => writer.write(buffer),
            Self::Gzip(encoder) => encoder.write(buffer),
            Self::Zstd(encoder) => encoder.write(buffer),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::None(writer) => writer.flush(),
            Self::Gzip(encoder) => encoder.flush(),
            Self::Zstd(encoder) => encoder.flush(),
        }
    }
}
