//! What systemd is told to start: its unit files and drop-ins, read as far as they name processes that read configs
//! (`systemd.unit(5)`, `systemd.service(5)`).

use super::{Starter, StarterKind, command_line::read_command_line};
use crate::topology::process::Process;
use std::collections::{BTreeMap, BTreeSet};

/// The unit files of a host, by unit name. Where a unit is in several directories, the one that systemd takes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnitFiles {
    /// Unit name (`modbus_client@.service`, `gateway.service`) to text.
    pub units: BTreeMap<String, String>,
    /// Unit name to its drop-ins, file name to text.
    pub drop_ins: BTreeMap<String, BTreeMap<String, String>>,
    /// The units that some target wants (`modbus_client@bms.service`).
    pub wanted: BTreeSet<String>,
}

impl UnitFiles {
    /// Everything that systemd starts by itself and that reads configs.
    pub fn starters(&self) -> Vec<Starter> {
        self.wanted.iter().filter_map(|unit| self.starter(unit)).collect()
    }

    fn starter(&self, unit: &str) -> Option<Starter> {
        let stem = unit.strip_suffix(".service")?;
        let (template, instance) = match stem.split_once('@') {
            Some((prefix, instance)) if !instance.is_empty() => (Some(format!("{prefix}@.service")), instance),
            _ => (None, ""),
        };
        let mut command = None;
        let text = self.units.get(unit).or_else(|| self.units.get(template.as_ref()?)).map(String::as_str);
        for text in text.into_iter().chain(self.drop_ins_of(unit, template.as_deref())) {
            read_exec_start(text, &mut command);
        }
        let launch = match command {
            Some(command) => {
                let words = split_words(&expand(&command, stem, instance));
                // The marks that change how a program is run are no part of its name.
                let words: Vec<&str> = words
                    .iter()
                    .enumerate()
                    .map(|(index, word)| if index == 0 { word.trim_start_matches(['-', '@', ':', '+', '!', '|']) } else { word })
                    .collect();
                read_command_line(&words)?
            }
            // The unit file cannot be read: the instance names the file all the same, by the rule of every such unit.
            None => {
                let process = Process::of_program(stem.split('@').next()?)?;
                read_command_line(&[process.as_str(), &format!("{instance}.json")]).filter(|_| !instance.is_empty())?
            }
        };
        Some(Starter { kind: StarterKind::Systemd, name: unit.to_owned(), pid: None, listed_in: None, launch })
    }

    /// The drop-ins of a unit in the order of their file names; those of an instance stand in for those of its template of the same
    /// name.
    fn drop_ins_of(&self, unit: &str, template: Option<&str>) -> Vec<&str> {
        let mut merged: BTreeMap<&str, &str> = BTreeMap::new();
        for name in template.into_iter().chain([unit]) {
            merged.extend(self.drop_ins.get(name).into_iter().flatten().map(|(file, text)| (file.as_str(), text.as_str())));
        }
        merged.into_values().collect()
    }
}

/// Takes over the `ExecStart=` of the section `[Service]`; an empty one forgets those before, and the first one counts.
fn read_exec_start(text: &str, command: &mut Option<String>) {
    let text = text.replace("\\\n", " ");
    let mut in_service = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            in_service = line == "[Service]";
        } else if let Some((key, value)) = line.split_once('=').filter(|_| in_service)
            && key.trim_end() == "ExecStart"
        {
            match value.trim() {
                "" => *command = None,
                value => *command = command.take().or_else(|| Some(value.to_owned())),
            }
        }
    }
}

/// Puts in what the specifiers stand for: `%i` and `%I` the instance, `%p` the name before the `@`, `%n` and `%N` the unit.
fn expand(command: &str, stem: &str, instance: &str) -> String {
    let mut expanded = String::with_capacity(command.len());
    let mut chars = command.chars();
    while let Some(c) = chars.next() {
        match (c, if c == '%' { chars.next() } else { None }) {
            ('%', Some('i')) => expanded.push_str(instance),
            ('%', Some('I')) => expanded.push_str(&unescape(instance)),
            ('%', Some('p' | 'P')) => expanded.push_str(stem.split('@').next().unwrap_or_default()),
            ('%', Some('n')) => expanded.extend([stem, ".service"]),
            ('%', Some('N')) => expanded.push_str(stem),
            ('%', Some('%')) => expanded.push('%'),
            ('%', other) => expanded.extend(['%'].into_iter().chain(other)),
            (c, _) => expanded.push(c),
        }
    }
    expanded
}

/// Undoes the escapes of a unit name: `-` is `/`, `\x2d` is `-`.
fn unescape(instance: &str) -> String {
    let mut bytes = Vec::with_capacity(instance.len());
    let mut rest = instance;
    while let Some(c) = rest.chars().next() {
        let code = rest.strip_prefix("\\x").and_then(|hex| u8::from_str_radix(hex.get(..2)?, 16).ok());
        match (code, c) {
            (Some(code), _) => {
                bytes.push(code);
                rest = rest.get(4..).unwrap_or_default();
                continue;
            }
            (None, '-') => bytes.push(b'/'),
            (None, c) => bytes.extend(c.encode_utf8(&mut [0; 4]).bytes()),
        }
        rest = rest.get(c.len_utf8()..).unwrap_or_default();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The words of a command: divided at blanks, except in quotes.
fn split_words(command: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in command.chars() {
        match (quote, c) {
            (Some(mark), c) if c == mark => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEMPLATE: &str = "[Unit]\nAfter=fims.service\n\n[Service]\nUser=hybridos\n\
        ExecStart=/usr/local/bin/modbus_client /usr/local/etc/config/modbus_client/%i.json\nRestart=always\n";

    fn files(units: &[(&str, &str)], drop_ins: &[(&str, &str, &str)], wanted: &[&str]) -> UnitFiles {
        let mut files = UnitFiles {
            units: units.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect(),
            wanted: wanted.iter().map(|unit| (*unit).to_owned()).collect(),
            ..UnitFiles::default()
        };
        for (unit, file, text) in drop_ins {
            files.drop_ins.entry((*unit).to_owned()).or_default().insert((*file).to_owned(), (*text).to_owned());
        }
        files
    }

    fn given(files: &UnitFiles) -> Vec<String> {
        files.starters().iter().map(|starter| starter.launch.files.join(" ")).collect()
    }

    #[test]
    fn an_instance_of_a_template_names_its_file() {
        let files = files(&[("modbus_client@.service", TEMPLATE)], &[], &["modbus_client@bms_1.service", "fims.service"]);
        let [starter] = &files.starters()[..] else { panic!("{:?}", files.starters()) };
        assert_eq!((starter.name.as_str(), starter.launch.process), ("modbus_client@bms_1.service", Process::ModbusClient));
        assert_eq!(starter.launch.files, ["/usr/local/etc/config/modbus_client/bms_1.json"]);
    }

    #[test]
    fn an_instance_whose_template_cannot_be_read_still_names_its_file() {
        assert_eq!(given(&files(&[], &[], &["modbus_server@poi.service", "sshd@1.service"])), ["poi.json"]);
    }

    #[test]
    fn a_drop_in_replaces_the_command_and_that_of_an_instance_goes_first() {
        let reset = |file: &str| {
            format!("[Service]\nExecStart=\nExecStart=-/usr/local/bin/gcom_modbus_client \"{file}\" \\\n ip:10.0.0.7\n")
        };
        let (all, own) = (reset("all.json"), reset("own one.json"));
        let units = [("modbus_client@.service", TEMPLATE)];
        let wanted = ["modbus_client@a.service", "modbus_client@b.service"];
        let drop_ins = [("modbus_client@.service", "10-run.conf", all.as_str()), ("modbus_client@b.service", "10-run.conf", &own)];
        let files = files(&units, &drop_ins, &wanted);
        assert_eq!(given(&files), ["all.json", "own one.json"]);
        assert_eq!(files.starters()[0].launch.overrides, [("ip".to_owned(), "10.0.0.7".to_owned())]);
    }

    #[test]
    fn specifiers_and_escapes_are_undone() {
        assert_eq!(
            expand("%p %i %I %N %n %% %z %", r"a@b\x2dc-d", r"b\x2dc-d"),
            r"a b\x2dc-d b-c/d a@b\x2dc-d a@b\x2dc-d.service % %z %"
        );
    }

    #[test]
    fn a_command_outside_of_its_section_does_not_count() {
        let unit = "[Install]\nExecStart=/usr/local/bin/modbus_client x.json\n";
        assert_eq!(given(&files(&[("gateway.service", unit)], &[], &["gateway.service"])), Vec::<String>::new());
    }

    proptest! {
        #[test]
        fn any_unit_is_read(text: String, instance: String) {
            let unit = format!("modbus_client@{instance}.service");
            let command = format!("[Service]\nExecStart={text}");
            let _ = files(&[("modbus_client@.service", &command)], &[], &[&unit]).starters();
        }
    }
}
