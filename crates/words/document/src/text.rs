//! JSON and YAML text as values, with the fields that it gives twice.
//!
//! The last of them counts, as in Go; strict clients are told.

use std::fmt;
use std::hash::{DefaultHasher, Hasher};

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::mended::mended;

/// What a text says.
#[derive(Debug, Default, PartialEq)]
pub struct Document {
    /// The value.
    pub value: Value,
    /// Fields that were given more than once.
    pub duplicates: Duplicates,
}

/// Fields that a text gives more than once: the first [`MOST`] of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Duplicates {
    /// Paths of what was given again.
    pub paths: Vec<String>,
    /// All fields as the text gives them; only where there are duplicates.
    order: Vec<Mark>,
    /// The lines of YAML that give them again; Go tells of those apart from what else is wrong.
    yaml: Option<Vec<Option<usize>>>,
}

/// How many duplicates are told, as upstream does.
const MOST: usize = 100;

/// A field of a text. Texts whose every path is long are cheap to write, so paths are kept as hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    path: u64,
    /// The part of the path behind its last dot.
    key: u64,
}

impl Duplicates {
    /// `duplicate field "…"` for each path, once.
    pub fn told(&self) -> impl Iterator<Item = String> {
        let first = |(at, path): (usize, &String)| !self.paths[..at].contains(path);
        let told = self.paths.iter().enumerate().filter(move |one| self.yaml.is_some() || first(*one));
        told.map(move |(at, path)| match &self.yaml {
            None => format!("duplicate field \"{path}\""),
            Some(lines) => {
                let line = lines
                    .get(at)
                    .copied()
                    .flatten()
                    .map_or_else(String::new, |line| format!("line {line}: "));
                format!("{line}key {:?} already set in map", last(path))
            }
        })
    }

    /// Whether the text that gives something twice is YAML.
    pub fn is_yaml(&self) -> bool {
        self.yaml.is_some()
    }

    /// What a strict reader says of all that is wrong, in one text.
    pub fn refusal(self, unknown: Vec<String>) -> String {
        if self.yaml.is_none() || self.paths.is_empty() {
            return self.with_unknown(unknown).join(", ");
        }
        let lines: Vec<String> = self.told().map(|text| format!("\n  {text}")).collect();
        let duplicates = format!("yaml: unmarshal errors:{}", lines.concat());
        std::iter::once(duplicates).chain(unknown).collect::<Vec<_>>().join(", ")
    }

    /// The line of YAML (from 1) of each; none where it is not found.
    pub fn lines(&self, text: &str) -> Vec<Option<usize>> {
        let mut lines = Vec::new();
        for (at, path) in self.paths.iter().enumerate() {
            let before = self.paths[..at].iter().filter(|one| *one == path).count();
            let Some(place) = self.place(path, before + 1) else {
                lines.push(None);
                continue;
            };
            let (key, hashed) = (last(path), hash(last(path)));
            let nth = self.order[..place].iter().filter(|mark| mark.key == hashed).count();
            let found = text
                .lines()
                .enumerate()
                .flat_map(|(line, content)| std::iter::repeat_n(line + 1, keys(content, key)));
            lines.push(found.into_iter().nth(nth));
        }
        lines
    }

    /// Where the text gives a path for the nth time (from 0).
    fn place(&self, path: &str, nth: usize) -> Option<usize> {
        let hashed = hash(path);
        self.order.iter().enumerate().filter(|(_, mark)| mark.path == hashed).nth(nth).map(|(place, _)| place)
    }

    /// `duplicate field "…"` and what is `unknown` (`unknown field "…"`), in the order of the text.
    pub fn with_unknown(self, unknown: Vec<String>) -> Vec<String> {
        if self.paths.is_empty() {
            return unknown;
        }
        if self.yaml.is_some() {
            return self.told().chain(unknown).collect();
        }
        let place = |path: &str, nth: usize| self.place(path, nth).unwrap_or(usize::MAX);
        let path = |text: &str| text.split('"').nth(1).unwrap_or_default().to_owned();
        let again = self.told().map(|text| (place(&path(&text), 1), text));
        let mut all: Vec<(usize, String)> = again.collect();
        all.extend(unknown.into_iter().map(|text| (place(&path(&text), 0), text)));
        all.sort_by_key(|(place, _)| *place);
        all.into_iter().map(|(_, text)| text).collect()
    }
}

/// How often a line of YAML has a key.
fn keys(line: &str, key: &str) -> usize {
    let is_key = |(at, _): &(usize, &str)| {
        let before = line[..*at].chars().next_back();
        let behind = line[at + key.len()..].trim_start_matches(['"', '\'']).trim_start();
        before.is_none_or(|letter| " {,-\"'".contains(letter)) && behind.starts_with(':')
    };
    if key.is_empty() { 0 } else { line.match_indices(key).filter(is_key).count() }
}

fn last(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or_default()
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(text.as_bytes());
    hasher.finish()
}

impl Document {
    /// Reads JSON; nesting is bounded by the parser. What is no Unicode becomes U+FFFD, as in Go.
    ///
    /// # Errors
    /// When the bytes are no JSON.
    pub fn json(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        Self::exact_json(bytes).or_else(|error| match mended(bytes) {
            Some(text) => Self::exact_json(text.as_bytes()),
            None => Err(error),
        })
    }

    fn exact_json(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let mut reader = serde_json::Deserializer::from_slice(bytes);
        let (value, paths) = read(&mut reader)?;
        reader.end()?;
        let order = match paths.is_empty() {
            true => Vec::new(),
            false => marks(&mut serde_json::Deserializer::from_slice(bytes))?,
        };
        Ok(Self { value, duplicates: Duplicates { paths, order, yaml: None } })
    }

    /// Reads YAML; nesting, aliases and sizes are bounded by the parser's usual budget.
    ///
    /// # Errors
    /// When the text is no YAML, or is too much of it.
    pub fn yaml(text: &str) -> Result<Self, serde_saphyr::Error> {
        let mut options = serde_saphyr::Options::default();
        options.duplicate_keys = serde_saphyr::DuplicateKeyPolicy::PassThrough;
        let (value, paths) =
            serde_saphyr::with_deserializer_from_str_with_options(text, options.clone(), |reader| {
                read(reader)
            })?;
        let order = match paths.is_empty() {
            true => Vec::new(),
            false => {
                serde_saphyr::with_deserializer_from_str_with_options(text, options, |reader| marks(reader))?
            }
        };
        let mut duplicates = Duplicates { paths, order, yaml: None };
        duplicates.yaml = (!duplicates.paths.is_empty()).then(|| duplicates.lines(text));
        Ok(Self { value, duplicates })
    }
}

/// A value, and the paths of what it gives again.
fn read<'de, D: Deserializer<'de>>(reader: D) -> Result<(Value, Vec<String>), D::Error> {
    let mut found = Vec::new();
    let value = Reader { found: &mut found }.deserialize(reader)?;
    Ok((value, found))
}

/// All fields, as the text gives them.
fn marks<'de, D: Deserializer<'de>>(reader: D) -> Result<Vec<Mark>, D::Error> {
    let mut found = Vec::new();
    Marker { found: &mut found, outer: None }.deserialize(reader)?;
    Ok(found)
}

/// Builds a value. Paths grow from the inside out, so that they cost nothing where nothing is found.
struct Reader<'a> {
    found: &'a mut Vec<String>,
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Value;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("any JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        let mut known = self.found.len();
        while let Some(item) = items.next_element_seed(Reader { found: self.found })? {
            self.found[known..]
                .iter_mut()
                .for_each(|path| *path = joined(&format!("[{}]", list.len()), path));
            known = self.found.len();
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        let mut known = self.found.len();
        while let Some(key) = entries.next_key::<String>()? {
            let value = entries.next_value_seed(Reader { found: self.found })?;
            self.found[known..].iter_mut().for_each(|path| *path = joined(&key, path));
            if self.found.len() < MOST && map.contains_key(&key) {
                self.found.push(key.clone());
            }
            known = self.found.len();
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

/// Marks the fields below the path that `outer` has seen.
struct Marker<'a> {
    found: &'a mut Vec<Mark>,
    outer: Option<DefaultHasher>,
}

impl<'de> DeserializeSeed<'de> for Marker<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Marker<'_> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("any JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_none<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_some<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_any(self)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        for at in 0.. {
            let mut path = self.outer.clone().unwrap_or_default();
            path.write(format!("[{at}]").as_bytes());
            let item = Marker { found: self.found, outer: Some(path) };
            if items.next_element_seed(item)?.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        while let Some(key) = entries.next_key::<String>()? {
            let mut path = self.outer.clone().unwrap_or_default();
            if self.outer.is_some() {
                path.write(b".");
            }
            path.write(key.as_bytes());
            let mark = Mark { path: path.finish(), key: hash(last(&key)) };
            entries.next_value_seed(Marker { found: self.found, outer: Some(path) })?;
            // Behind what is in it, as paths that grow from the inside out have it.
            self.found.push(mark);
        }
        Ok(())
    }
}

fn joined(outer: &str, inner: &str) -> String {
    if inner.starts_with('[') { format!("{outer}{inner}") } else { format!("{outer}.{inner}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_last_of_two_counts_and_is_told() {
        let text = r#"{"a":1,"b":[{"c":{"d":1,"d":2}},{"e":true,"e":null}],"a":"x","f":-1.5}"#;
        let yaml = "a: 1\nb:\n- c: {d: 1, d: 2}\n- {e: true, e: null}\na: x\nf: -1.5\n";
        let value = json!({"a": "x", "b": [{"c": {"d": 2}}, {"e": null}], "f": -1.5});
        for document in [Document::json(text.as_bytes()).expect("JSON"), Document::yaml(yaml).expect("YAML")]
        {
            assert_eq!(document.value, value);
            assert_eq!(document.duplicates.paths, ["b[0].c.d", "b[1].e", "a"]);
            assert_eq!(document.duplicates.lines(yaml), [Some(3), Some(4), Some(5)]);
        }
    }

    #[test]
    fn what_is_wrong_is_told_in_the_order_of_the_text() {
        let text = r#"{"spec":{"x":"foo","replicas":2,"replicas":3,"y":1}}"#;
        let duplicates = Document::json(text.as_bytes()).expect("JSON").duplicates;
        let unknown = ["spec.x", "spec.y"].map(|path| format!("unknown field \"{path}\""));
        assert_eq!(
            duplicates.with_unknown(unknown.to_vec()),
            ["unknown field \"spec.x\"", "duplicate field \"spec.replicas\"", "unknown field \"spec.y\""]
        );
        let once = Document::json(b"{}").expect("JSON").duplicates;
        assert_eq!(once.with_unknown(unknown.to_vec()), unknown);
    }

    #[test]
    fn yaml_tells_of_lines() {
        let text = "a: 1\na: 2\nb: {c: 1}\nd:\n  c: 1\n  c: 2\n";
        let duplicates = Document::yaml(text).expect("YAML").duplicates;
        let unknown = vec!["unknown field \"a\"".to_owned()];
        let told = ["line 2: key \"a\" already set in map", "line 6: key \"c\" already set in map"];
        assert_eq!(duplicates.clone().with_unknown(unknown.clone()), [told[0], told[1], &unknown[0]]);
        let refusal = format!("yaml: unmarshal errors:\n  {}\n  {}, {}", told[0], told[1], unknown[0]);
        assert_eq!(duplicates.refusal(unknown), refusal);
    }

    #[test]
    fn what_is_no_unicode_is_replaced() {
        let value = Document::json(b"{\"a\xff\":\"\xfe\\ud800\"}").expect("JSON").value;
        assert_eq!(value, json!({"a\u{fffd}": "\u{fffd}\u{fffd}"}));
    }

    #[test]
    fn many_duplicates_below_long_paths_cost_little() {
        // 100 levels of long keys, and 100,000 fields below them that are all the same.
        let deep = format!("{{\"{}\":", "k".repeat(10_000)).repeat(100);
        let text = format!("{deep}{{{}\"a\":1}}{}", "\"a\":1,".repeat(100_000), "}".repeat(100));
        let begun = std::time::Instant::now();
        let duplicates = Document::json(text.as_bytes()).expect("JSON").duplicates;
        assert_eq!((duplicates.paths.len(), duplicates.told().count()), (MOST, 1));
        assert_eq!(duplicates.with_unknown(vec!["unknown field \"x\"".to_owned(); 100]).len(), 101);
        assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
    }

    #[test]
    fn hostile_texts_are_refused() {
        let deep = |open: &str, close: &str| open.repeat(100_000) + &close.repeat(100_000);
        for text in [deep("[", "]"), deep("{\"a\":", "}"), "{} {}".to_owned()] {
            assert!(Document::json(text.as_bytes()).is_err());
        }
        assert!(Document::yaml(&deep("[", "]")).is_err());
        // Each level doubles what the one before stands for.
        let bomb: String =
            (1..64).map(|level| format!("a{level}: &a{level} [*a{0}, *a{0}]\n", level - 1)).collect();
        assert!(Document::yaml(&format!("a0: &a0 x\n{bomb}")).is_err());
    }
}
