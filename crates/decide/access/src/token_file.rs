//! The static token file: `token,user,uid[,"group1,group2"]`, a line each
//! (apiserver: pkg/authentication/token/tokenfile).

use std::collections::HashMap;

use crate::User;

/// The tokens of a file and whose they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenFile(HashMap<String, User>);

impl TokenFile {
    /// Reads the text of a file that is called `path` in errors. The last of several lines with one
    /// token counts.
    pub fn parse(path: &str, text: &str) -> Result<Self, String> {
        let mut tokens = HashMap::new();
        for record in records(text).map_err(|error| format!("{path}: {error}"))? {
            let [token, name, uid, rest @ ..] = &record[..] else {
                return Err(format!(
                    "token file '{path}' must have at least 3 columns (token, user name, user uid), found {}",
                    record.len()
                ));
            };
            if token.is_empty() {
                continue;
            }
            let groups = rest.first().map(|groups| groups.split(',').map(str::to_owned).collect());
            let user = User {
                name: name.clone(),
                uid: uid.clone(),
                groups: groups.unwrap_or_default(),
                ..User::default()
            };
            tokens.insert(token.clone(), user.known());
        }
        Ok(Self(tokens))
    }

    /// The user of a token.
    pub fn user(&self, token: &str) -> Option<&User> {
        self.0.get(token)
    }
}

/// The records of a text in the format of RFC 4180, without its empty lines.
fn records(text: &str) -> Result<Vec<Vec<String>>, String> {
    let mut all = Vec::new();
    let (mut record, mut field) = (Vec::new(), String::new());
    let mut chars = text.chars().peekable();
    let mut line = 1;
    let mut begins = true;
    while let Some(c) = chars.next() {
        match c {
            '"' if begins => {
                quoted(&mut chars, &mut field).ok_or_else(|| {
                    format!("record on line {line}: extraneous or missing \" in quoted-field")
                })?;
                begins = false;
                continue;
            }
            '"' => return Err(format!("record on line {line}: bare \" in non-quoted-field")),
            ',' => record.push(std::mem::take(&mut field)),
            '\r' if chars.peek() == Some(&'\n') => continue,
            '\n' => {
                line += 1;
                if !record.is_empty() || !field.is_empty() {
                    record.push(std::mem::take(&mut field));
                    all.push(std::mem::take(&mut record));
                }
            }
            other => {
                field.push(other);
                begins = false;
                continue;
            }
        }
        begins = true;
    }
    if !record.is_empty() || !field.is_empty() {
        record.push(field);
        all.push(record);
    }
    Ok(all)
}

/// Reads up to the closing quote, which a separator or the end must follow; two quotes stand for one.
fn quoted(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, field: &mut String) -> Option<()> {
    while let Some(c) = chars.next() {
        match (c, chars.peek()) {
            ('"', Some('"')) => {
                chars.next();
                field.push('"');
            }
            ('"', None | Some(',' | '\n' | '\r')) => return Some(()),
            ('"', Some(_)) => return None,
            (other, _) => field.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_name_users_and_groups() {
        let text = "t1,ann,1\n\nt2,\"bob \"\"b\"\"\",2,\"g1,g2\"\r\n,nobody,3\nt3,eve,4,g3\nt1,ann2,5";
        let file = TokenFile::parse("tokens.csv", text).expect("readable");
        let found = |token: &str| {
            file.user(token).map(|user| format!("{} {} {}", user.name, user.uid, user.groups.join("|")))
        };
        for (token, expected) in [
            ("t1", Some("ann2 5 system:authenticated")),
            ("t2", Some("bob \"b\" 2 g1|g2|system:authenticated")),
            ("t3", Some("eve 4 g3|system:authenticated")),
            ("", None),
            ("t4", None),
        ] {
            assert_eq!(found(token).as_deref(), expected, "{token}");
        }
    }

    #[test]
    fn damaged_files_are_refused() {
        for (text, expected) in [
            ("t,ann", "token file 'f' must have at least 3 columns (token, user name, user uid), found 2"),
            ("t,\"ann,1", "f: record on line 1: extraneous or missing \" in quoted-field"),
            ("t,a\"nn,1", "f: record on line 1: bare \" in non-quoted-field"),
        ] {
            assert_eq!(TokenFile::parse("f", text).expect_err(text), expected);
        }
    }
}
