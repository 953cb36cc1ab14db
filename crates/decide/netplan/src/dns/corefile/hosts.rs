//! `hosts`: names that are told here.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use super::syntax::Directive;
use super::{Fault, is_in_zone, zone_name};

/// Names of a `hosts` directive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hosts {
    /// By name, in lower case without the last dot.
    addresses: HashMap<Box<str>, Vec<IpAddr>>,
    /// The first name of each address.
    names: HashMap<IpAddr, Vec<Box<str>>>,
    zones: Vec<Box<str>>,
    /// The lifetime of the records, in seconds.
    pub lifetime: u32,
    /// The zones in which names that are not here may be known elsewhere; none means nowhere.
    fall_through: Option<Vec<Box<str>>>,
    reverse: bool,
}

/// What `hosts` says of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told<'a> {
    /// Its addresses, of both families.
    Addresses(&'a [IpAddr]),
    /// There is no such name, and nobody else may be asked.
    NoName,
    /// Nothing.
    Nothing,
}

impl Hosts {
    /// What is said of a name, in lower case without its last dot.
    pub fn of_name(&self, name: &str) -> Told<'_> {
        if let Some(addresses) = self.addresses.get(name) {
            return Told::Addresses(addresses);
        }
        let ours = self.zones.iter().any(|zone| is_in_zone(name, zone));
        let elsewhere = |zones: &Vec<Box<str>>| zones.iter().any(|zone| is_in_zone(name, zone));
        if !ours || self.fall_through.as_ref().is_some_and(elsewhere) { Told::Nothing } else { Told::NoName }
    }

    /// The names of an address.
    pub fn of_address(&self, address: IpAddr) -> &[Box<str>] {
        self.names.get(&address).filter(|_| self.reverse).map_or(&[], Vec::as_slice)
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.addresses.values().map(Vec::len).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.addresses.is_empty()
    }

    pub(super) fn read(line: &Directive, files: &BTreeMap<String, String>) -> Result<Self, Fault> {
        let mut hosts = Self {
            addresses: HashMap::new(),
            names: HashMap::new(),
            zones: vec!["".into()],
            lifetime: 3600,
            fall_through: None,
            reverse: true,
        };
        if let [file, zones @ ..] = line.arguments() {
            let base = file.rsplit('/').next().unwrap_or(file);
            let text = files.get(base).map_or("", String::as_str);
            for entry in text.lines() {
                let entry = entry.split('#').next().unwrap_or_default();
                let mut words = entry.split_whitespace();
                // As in any hosts file, lines that say nothing are passed over.
                if let Some(address) = words.next().and_then(|word| word.parse().ok()) {
                    hosts.add(address, words);
                }
            }
            if !zones.is_empty() {
                hosts.zones = zones.iter().map(|zone| zone_name(zone).into()).collect();
            }
        }
        for option in &line.body {
            hosts.option(option)?;
        }
        Ok(hosts)
    }

    fn option(&mut self, option: &Directive) -> Result<(), Fault> {
        let arguments = option.arguments();
        match option.name() {
            "fallthrough" if arguments.is_empty() => self.fall_through = Some(vec!["".into()]),
            "fallthrough" => {
                self.fall_through = Some(arguments.iter().map(|zone| zone_name(zone).into()).collect());
            }
            "no_reverse" => self.reverse = false,
            "reload" => {}
            "ttl" => {
                let text = arguments.first().map_or("", String::as_str);
                self.lifetime = match text.parse() {
                    Ok(seconds @ 1..=65535) => seconds,
                    _ => return Err(option.fault(format!("ttl provided is invalid: {text:?}"))),
                };
            }
            address => match address.parse::<IpAddr>() {
                Ok(address) => self.add(address, arguments.iter().map(String::as_str)),
                Err(_) => return Err(option.fault(format!("unknown property '{address}'"))),
            },
        }
        Ok(())
    }

    fn add<'a>(&mut self, address: IpAddr, names: impl Iterator<Item = &'a str>) {
        for name in names {
            let name: Box<str> = zone_name(name).into();
            let known = self.addresses.entry(name.clone()).or_default();
            if !known.contains(&address) {
                known.push(address);
                self.names.entry(address).or_default().push(name);
            }
        }
    }
}
