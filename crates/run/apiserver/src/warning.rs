//! What clients are told besides the answer: `Warning` headers.
//!
//! The same text is told once. All texts together may have 4,096 characters; when there are more, each is cut
//! to 256 and the rest is left out (apiserver: endpoints/filters/warning.go, v1.37).

use std::sync::{Arc, Mutex, PoisonError};

use http::header::WARNING;
use http::{HeaderMap, HeaderValue};

const ALL: usize = 4096;
const EACH: usize = 256;

/// The warnings of one request; clones add to the same list.
#[derive(Clone, Debug, Default)]
pub(crate) struct Warnings(Arc<Mutex<Vec<String>>>);

impl Warnings {
    /// Adds to them.
    pub(crate) fn extend(&self, texts: impl IntoIterator<Item = String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(texts);
    }

    /// Writes them into the head of the answer.
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        let texts = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        for text in told(&texts) {
            let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
            if let Ok(value) = HeaderValue::from_bytes(format!("299 - \"{escaped}\"").as_bytes()) {
                headers.append(WARNING, value);
            }
        }
    }
}

/// The texts in the form and number that a client gets.
fn told(texts: &[String]) -> Vec<String> {
    let mut kept: Vec<&str> = Vec::new();
    for text in texts {
        let sound = !text.is_empty() && !text.contains(char::is_control);
        if sound && !kept.contains(&text.as_str()) {
            kept.push(text);
        }
    }
    let length = |text: &str| text.chars().count();
    if kept.iter().map(|text| length(text)).sum::<usize>() <= ALL {
        return kept.into_iter().map(str::to_owned).collect();
    }
    let mut total = 0;
    let mut cut = Vec::new();
    for text in kept {
        if total >= ALL {
            break;
        }
        let short: String = text.chars().take(EACH).collect();
        total += length(&short);
        cut.push(short);
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_told_once_and_in_bounds() {
        let long = |letter: &str, count: usize| letter.repeat(count);
        let texts = |list: &[&str]| -> Vec<String> { list.iter().map(|text| (*text).to_owned()).collect() };
        for (given, expected) in [
            (texts(&["a", "b", "a", "", "c\nd"]), texts(&["a", "b"])),
            (vec![long("a", 4096)], vec![long("a", 4096)]),
            (vec![long("a", 4000), long("ä", 300)], vec![long("a", 256), long("ä", 256)]),
        ] {
            assert_eq!(told(&given), expected);
        }
        let many: Vec<String> = (0..40).map(|one| format!("{one:0300}")).collect();
        assert_eq!(told(&many).len(), 16);
    }

    #[test]
    fn texts_are_quoted() {
        let (warnings, mut headers) = (Warnings::default(), HeaderMap::new());
        warnings.extend(["say \"no\"".to_owned()]);
        warnings.write(&mut headers);
        assert_eq!(headers[WARNING], "299 - \"say \\\"no\\\"\"");
    }
}
