//! What CNI plugins are told and what they answer (CNI specification 1.1 and before).
//!
//! What enters are configurations as users write them, and the texts that plugins print; what leaves are the texts
//! that plugins read, and addresses. Who runs plugins is `run/network`.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Map, Value, json};

/// The versions that plugins can be spoken to in, the oldest first.
const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// What a plugin is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Connect a sandbox.
    Add,
    /// Disconnect it.
    Del,
    /// See whether a connection is as it was made.
    Check,
    /// Give up what belongs to no sandbox that is told.
    Gc,
    /// Say whether sandboxes can be connected now.
    Status,
}

impl Command {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Check => "CHECK",
            Self::Gc => "GC",
            Self::Status => "STATUS",
        }
    }

    /// The first version that has it.
    fn since(self) -> usize {
        match self {
            Self::Add | Self::Del => 0,
            Self::Check => 2,
            Self::Gc | Self::Status => 4,
        }
    }
}

/// A list of plugins that connect a sandbox one after the other.
#[derive(Debug, Clone, PartialEq)]
pub struct Network {
    /// Its name.
    pub name: String,
    version: usize,
    plugins: Vec<Map<String, Value>>,
    checks: bool,
    collects: bool,
}

/// What a runtime tells plugins that can do something with it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Capabilities(pub Vec<(&'static str, Value)>);

impl Network {
    /// Reads a list (`.conflist`), or the configuration of one plugin (`.conf`, `.json`).
    pub fn read(text: &str) -> Result<Self, String> {
        let value: Value =
            serde_json::from_str(text).map_err(|error| format!("error parsing configuration: {error}"))?;
        let name = value["name"].as_str().unwrap_or_default().to_owned();
        if name.is_empty() {
            return Err("error parsing configuration list: no name".to_owned());
        }
        let plugins = match value.get("plugins") {
            Some(list) => {
                list.as_array().cloned().ok_or("error parsing configuration list: invalid 'plugins' type")?
            }
            None => vec![value.clone()],
        };
        let plugins: Vec<Map<_, _>> =
            plugins.into_iter().filter_map(|plugin| plugin.as_object().cloned()).collect();
        if plugins.is_empty() {
            return Err("error parsing configuration list: no plugins in list".to_owned());
        }
        if let Some(at) = plugins.iter().position(|plugin| !plugin.get("type").is_some_and(Value::is_string))
        {
            return Err(format!("error parsing configuration list: plugin {at} has no type"));
        }
        let is_off = |field: &str| value[field] == true || value[field] == "true";
        Ok(Self {
            name,
            version: version(&value)?,
            plugins,
            checks: !is_off("disableCheck"),
            collects: !is_off("disableGC"),
        })
    }

    /// Whether plugins can be asked for it.
    pub fn can(&self, command: Command) -> bool {
        let wanted = match command {
            Command::Check => self.checks,
            Command::Gc => self.collects,
            _ => true,
        };
        wanted && self.version >= command.since()
    }

    /// Whether a plugin does something with what it is told by this name.
    pub fn takes(&self, capability: &str) -> bool {
        self.plugins.iter().any(|plugin| takes(plugin, capability))
    }

    /// The programs and what each reads, in the order in which they are asked; [`Command::Add`] has the result of
    /// the one before put in by [`after`].
    pub fn requests(
        &self,
        command: Command,
        capabilities: &Capabilities,
        previous: Option<&Value>,
    ) -> Vec<(String, Value)> {
        let mut requests: Vec<_> =
            self.plugins.iter().map(|plugin| self.request(plugin, capabilities, previous)).collect();
        if command == Command::Del {
            requests.reverse();
        }
        requests
    }

    fn request(
        &self,
        plugin: &Map<String, Value>,
        capabilities: &Capabilities,
        previous: Option<&Value>,
    ) -> (String, Value) {
        let mut request = plugin.clone();
        let kind = plugin["type"].as_str().unwrap_or_default().to_owned();
        request.insert("name".to_owned(), json!(self.name));
        request.insert("cniVersion".to_owned(), json!(VERSIONS[self.version]));
        let told: Map<_, _> = capabilities
            .0
            .iter()
            .filter(|(name, _)| takes(plugin, name))
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect();
        request.remove("capabilities");
        if !told.is_empty() {
            request.insert("runtimeConfig".to_owned(), Value::Object(told));
        }
        let mut request = Value::Object(request);
        // Earlier versions tell nobody what was made when it is undone.
        if let Some(previous) = previous.filter(|_| self.version >= Command::Check.since()) {
            request = after(request, previous);
        }
        (kind, request)
    }

    /// The same, with the sandboxes that there are, for [`Command::Gc`].
    pub fn collections(&self, sandboxes: &[String], interface: &str) -> Vec<(String, Value)> {
        let valid: Vec<_> =
            sandboxes.iter().map(|id| json!({"containerID": id, "ifname": interface})).collect();
        let mut requests = self.requests(Command::Gc, &Capabilities::default(), None);
        for (_, request) in &mut requests {
            request["cni.dev/valid-attachments"] = json!(valid);
        }
        requests
    }
}

fn takes(plugin: &Map<String, Value>, capability: &str) -> bool {
    plugin.get("capabilities").is_some_and(|known| known[capability] == true)
}

/// What a plugin reads that comes after another one.
pub fn after(mut request: Value, previous: &Value) -> Value {
    request["prevResult"] = previous.clone();
    request
}

/// The newest version that both sides know, by its place.
fn version(list: &Value) -> Result<usize, String> {
    let place = |text: &str| VERSIONS.iter().position(|known| *known == text);
    let several = list["cniVersions"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let one = list["cniVersion"].as_str();
    let known = several.chain(one).filter_map(place).max();
    known.ok_or_else(|| {
        format!(
            "unsupported CNI result version {:?}: known are {}",
            one.unwrap_or_default(),
            VERSIONS.join(", ")
        )
    })
}

/// The addresses of a sandbox, by the result of the last plugin.
pub fn addresses(result: &Value) -> Vec<IpAddr> {
    let interfaces = result["interfaces"].as_array();
    // Addresses may be of an interface of the node's.
    let is_inside = |ip: &Value| {
        let interface = ip["interface"].as_u64().and_then(|at| interfaces?.get(usize::try_from(at).ok()?));
        interface.is_none_or(|interface| interface["sandbox"].as_str().is_some_and(|it| !it.is_empty()))
    };
    let ips = result["ips"].as_array().into_iter().flatten().filter(|ip| is_inside(ip));
    ips.filter_map(|ip| ip["address"].as_str()?.parse::<IpNet>().ok()).map(|net| net.addr()).collect()
}

/// Why a plugin failed, by what it printed and what it wrote to its standard error.
pub fn failure(kind: &str, command: Command, printed: &str, complaints: &str, status: &str) -> String {
    let told = serde_json::from_str::<Value>(printed).ok();
    let message = told.as_ref().and_then(|told| told["msg"].as_str()).unwrap_or_default();
    let details = told.as_ref().and_then(|told| told["details"].as_str()).unwrap_or_default();
    let why = match (message, details, complaints.trim()) {
        ("", _, "") => format!("netplugin failed with no error message: {status}"),
        ("", _, complaints) => format!("netplugin failed: {complaints:?}"),
        (message, "", _) => message.to_owned(),
        (message, details, _) => format!("{message}; {details}"),
    };
    let action = if command == Command::Del { "delete".to_owned() } else { command.name().to_lowercase() };
    format!("plugin type={kind:?} failed ({action}): {why}")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn list(version: &str) -> Network {
        let list = json!({"cniVersion": version, "name": "pods", "plugins": [
            {"type": "bridge", "ipam": {"type": "host-local"}, "capabilities": {"ipRanges": true}},
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ]});
        Network::read(&list.to_string()).unwrap()
    }

    #[test]
    fn plugins_are_told_what_they_can_use() {
        let network = list("1.0.0");
        let ports = json!([{"hostPort": 80}]);
        let capabilities = Capabilities(vec![("portMappings", ports.clone())]);
        let result = json!({"ips": []});
        let requests = network.requests(Command::Del, &capabilities, Some(&result));
        let expected = [
            json!({"type": "portmap", "name": "pods", "cniVersion": "1.0.0",
                "runtimeConfig": {"portMappings": ports}, "prevResult": result}),
            json!({"type": "bridge", "name": "pods", "cniVersion": "1.0.0",
                "ipam": {"type": "host-local"}, "prevResult": result}),
        ];
        assert_eq!(
            requests.iter().map(|(_, request)| request).collect::<Vec<_>>(),
            expected.iter().collect::<Vec<_>>()
        );
        assert_eq!(list("0.3.1").requests(Command::Add, &capabilities, None)[1].0, "portmap");
        assert_eq!(["portMappings", "bandwidth"].map(|name| network.takes(name)), [true, false]);
        let valid = network.collections(&["a".to_owned()], "eth0");
        assert_eq!(valid[0].1["cni.dev/valid-attachments"], json!([{"containerID": "a", "ifname": "eth0"}]));
    }

    #[test]
    fn versions_decide_what_plugins_are_asked_for() {
        let commands = [Command::Add, Command::Check, Command::Gc, Command::Status];
        for (version, can) in [
            ("0.3.1", [true, false, false, false]),
            ("0.4.0", [true, true, false, false]),
            ("1.0.0", [true, true, false, false]),
            ("1.1.0", [true; 4]),
        ] {
            assert_eq!(commands.map(|command| list(version).can(command)), can, "{version}");
        }
        let read = |text: Value| Network::read(&text.to_string());
        let single = read(json!({"cniVersions": ["0.4.0", "1.1.0", "9.0.0"], "name": "a", "type": "b",
            "disableCheck": true, "disableGC": "true"}));
        assert_eq!(commands.map(|command| single.as_ref().unwrap().can(command)), [true, false, false, true]);
        for (text, error) in [
            (json!({"cniVersion": "1.0.0", "type": "b"}), "error parsing configuration list: no name"),
            (
                json!({"cniVersion": "1.0.0", "name": "a", "plugins": []}),
                "error parsing configuration list: no plugins in list",
            ),
            (
                json!({"cniVersion": "1.0.0", "name": "a", "plugins": [{}]}),
                "error parsing configuration list: plugin 0 has no type",
            ),
            (
                json!({"cniVersion": "9", "name": "a", "type": "b"}),
                "unsupported CNI result version \"9\": known are 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0",
            ),
        ] {
            assert_eq!(read(text.clone()).unwrap_err(), error, "{text}");
        }
        assert!(Network::read("{").unwrap_err().starts_with("error parsing configuration: EOF"));
    }

    #[test]
    fn answers_are_read() {
        let result = json!({
            "interfaces": [{"name": "cni0"}, {"name": "eth0", "sandbox": "/run/netns/a"}],
            "ips": [{"address": "10.1.0.1/24", "interface": 0}, {"address": "10.1.0.5/24", "interface": 1},
                {"address": "fd00::5/64"}],
        });
        assert_eq!(addresses(&result), ["10.1.0.5", "fd00::5"].map(|text| text.parse::<IpAddr>().unwrap()));
        for (printed, complaints, why) in [
            ("{\"code\": 7, \"msg\": \"full\"}", "", "full"),
            ("{\"msg\": \"full\", \"details\": \"no room\"}", "x", "full; no room"),
            ("", "boom\n", "netplugin failed: \"boom\""),
            ("", "", "netplugin failed with no error message: exit status: 1"),
        ] {
            let text = failure("bridge", Command::Add, printed, complaints, "exit status: 1");
            assert_eq!(text, format!("plugin type=\"bridge\" failed (add): {why}"));
        }
    }
}
