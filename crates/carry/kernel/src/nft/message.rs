//! Netlink messages and attributes, written front to back.

use crate::netlink::aligned;

/// Bytes that grow by messages and attributes; lengths are filled in at their ends.
#[derive(Debug, Default, Clone)]
pub(super) struct Writer {
    bytes: Vec<u8>,
}

/// Where something with a length began.
#[derive(Debug, Clone, Copy)]
#[must_use]
pub(super) struct Start(usize);

const NESTED: u16 = 0x8000;

/// Starts a message of the netfilter family.
pub(super) fn begin_message(
    writer: &mut Writer,
    kind: u16,
    flags: u16,
    family: u8,
    resource: u16,
    sequence: u32,
) -> Start {
    let start = Start(writer.bytes.len());
    let bytes = &mut writer.bytes;
    bytes.extend_from_slice(&0u32.to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&flags.to_ne_bytes());
    bytes.extend_from_slice(&sequence.to_ne_bytes());
    bytes.extend_from_slice(&0u32.to_ne_bytes());
    bytes.extend_from_slice(&[family, 0]);
    bytes.extend_from_slice(&resource.to_be_bytes());
    start
}

impl Writer {
    pub(super) fn end_message(&mut self, start: Start) {
        let length = u32::try_from(self.bytes.len() - start.0).expect("messages are far below 4 GiB");
        self.bytes[start.0..start.0 + 4].copy_from_slice(&length.to_ne_bytes());
    }

    /// An attribute whose value is other attributes.
    pub(super) fn nested(&mut self, kind: u16, content: impl FnOnce(&mut Self)) {
        let start = self.begin_nested(kind);
        content(self);
        self.end_nested(start);
    }

    pub(super) fn begin_nested(&mut self, kind: u16) -> Start {
        let start = Start(self.bytes.len());
        self.bytes.extend_from_slice(&0u16.to_ne_bytes());
        self.bytes.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        start
    }

    pub(super) fn end_nested(&mut self, start: Start) {
        let length = u16::try_from(self.bytes.len() - start.0).expect("lists are cut below 64 KiB");
        self.bytes[start.0..start.0 + 2].copy_from_slice(&length.to_ne_bytes());
    }

    /// Bytes written since `start`.
    pub(super) fn since(&self, start: Start) -> usize {
        self.bytes.len() - start.0
    }

    pub(super) fn raw(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(4 + value.len()).expect("values are below 64 KiB");
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.bytes.resize(aligned(self.bytes.len()), 0);
    }

    pub(super) fn text(&mut self, kind: u16, value: &str) {
        let mut bytes = Vec::with_capacity(value.len() + 1);
        bytes.extend_from_slice(value.as_bytes());
        bytes.push(0);
        self.raw(kind, &bytes);
    }

    pub(super) fn number(&mut self, kind: u16, value: u32) {
        self.raw(kind, &value.to_be_bytes());
    }

    pub(super) fn long(&mut self, kind: u16, value: u64) {
        self.raw(kind, &value.to_be_bytes());
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}
