//! How an NFS folder is mounted: what the kernel is told, in the order in which it is tried.

use std::net::IpAddr;

/// One try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The kind of file system in the kernel's words.
    pub kind: &'static str,
    /// The options.
    pub options: Vec<String>,
}

/// The newest protocol first, unless the options name one (nfs-utils tries the same).
#[must_use]
pub fn attempts(address: IpAddr, options: &[String], read_only: bool) -> Vec<Attempt> {
    let version = options.iter().find_map(|option| {
        option.strip_prefix("vers=").or(option.strip_prefix("nfsvers=")).map(str::to_owned)
    });
    let is_version = |option: &&String| option.starts_with("vers=") || option.starts_with("nfsvers=");
    let versions =
        version.map_or_else(|| ["4.2", "4.1", "4.0", "3"].map(str::to_owned).to_vec(), |it| vec![it]);
    let attempt = |version: String| {
        let old = version.starts_with(['2', '3']);
        let mut all = vec![format!("vers={version}"), format!("addr={address}")];
        if old {
            all.push(format!("mountaddr={address}"));
        }
        all.extend(options.iter().filter(|option| !is_version(option)).cloned());
        if read_only {
            all.push("ro".into());
        }
        Attempt { kind: if old { "nfs" } else { "nfs4" }, options: all }
    };
    versions.into_iter().map(attempt).collect()
}

/// What is mounted, in the words of the mount table.
#[must_use]
pub fn device(server: &str, path: &str) -> String {
    if server.contains(':') && !server.starts_with('[') {
        format!("[{server}]:{path}")
    } else {
        format!("{server}:{path}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_in_order() {
        let address = IpAddr::from([192, 0, 2, 7]);
        let lines = |options: &[&str], read_only| -> Vec<String> {
            let options: Vec<_> = options.iter().map(|it| (*it).to_owned()).collect();
            let all = attempts(address, &options, read_only);
            all.into_iter().map(|it| format!("{} {}", it.kind, it.options.join(","))).collect()
        };
        assert_eq!(
            lines(&["hard"], true),
            [
                "nfs4 vers=4.2,addr=192.0.2.7,hard,ro",
                "nfs4 vers=4.1,addr=192.0.2.7,hard,ro",
                "nfs4 vers=4.0,addr=192.0.2.7,hard,ro",
                "nfs vers=3,addr=192.0.2.7,mountaddr=192.0.2.7,hard,ro",
            ]
        );
        assert_eq!(
            lines(&["nfsvers=3", "nolock"], false),
            ["nfs vers=3,addr=192.0.2.7,mountaddr=192.0.2.7,nolock"]
        );
        assert_eq!(device("s", "/x"), "s:/x");
        assert_eq!(device("fd00::1", "/x"), "[fd00::1]:/x");
    }
}
