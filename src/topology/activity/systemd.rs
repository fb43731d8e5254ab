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
    /// The files of variables that units name, path to text.
    pub environment_files: BTreeMap<String, String>,
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
        let instance = instance_of(stem);
        let service = self.service(unit);
        let mut unknown_variables = Vec::new();
        let launch = match service.command {
            Some(command) => {
                let environment = self.environment(&service.environment, &service.environment_files, stem);
                let words = split_words(&expand(&command, stem, instance));
                let words = put_in_variables(words, &environment, &mut unknown_variables);
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
        let working_dir = service.working_dir.map(|dir| expand(&dir, stem, instance));
        Some(Starter { working_dir, unknown_variables, ..Starter::new(StarterKind::Systemd, unit, launch) })
    }

    /// The files of variables that the units name. Of patterns nothing is read.
    pub(super) fn environment_paths(&self) -> BTreeSet<String> {
        let files = self.wanted.iter().filter_map(|unit| {
            let stem = unit.strip_suffix(".service")?;
            let files = self.service(unit).environment_files;
            Some(files.into_iter().map(|file| environment_path(&file, stem)).collect::<Vec<_>>())
        });
        files.flatten().collect()
    }

    /// What the unit and its drop-ins say of how it is run.
    fn service(&self, unit: &str) -> Service {
        let stem = unit.strip_suffix(".service").unwrap_or(unit);
        let template = stem.split_once('@').filter(|(_, instance)| !instance.is_empty());
        let template = template.map(|(prefix, _)| format!("{prefix}@.service"));
        let mut service = Service::default();
        let text = self.units.get(unit).or_else(|| self.units.get(template.as_ref()?)).map(String::as_str);
        for text in text.into_iter().chain(self.drop_ins_of(unit, template.as_deref())) {
            service.read(text);
        }
        service
    }

    /// The variables of a unit; those of files go before those of the unit itself.
    fn environment(&self, assignments: &[String], files: &[String], stem: &str) -> BTreeMap<String, String> {
        let own = assignments.iter().map(|line| expand(line, stem, instance_of(stem)));
        let own = own.flat_map(|line| split_words(&line));
        let from_files = files.iter().filter_map(|file| self.environment_files.get(&environment_path(file, stem)));
        let from_files = from_files.flat_map(|text| text.lines()).filter(|line| !line.trim_start().starts_with(['#', ';']));
        // A line of a file is one assignment, with or without quotes around its value.
        let from_files = from_files.filter_map(|line| {
            let (name, value) = line.split_once('=')?;
            let value = value.trim();
            let bare = ['"', '\''].into_iter().find_map(|mark| value.strip_prefix(mark)?.strip_suffix(mark));
            Some(format!("{}={}", name.trim(), bare.unwrap_or(value)))
        });
        let assignment = |text: String| text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        own.chain(from_files).filter_map(assignment).collect()
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

/// The settings of the section `[Service]` that say which process gets which words.
#[derive(Default)]
struct Service {
    command: Option<String>,
    working_dir: Option<String>,
    /// The values of `Environment=`, each with one assignment or several.
    environment: Vec<String>,
    /// The values of `EnvironmentFile=`.
    environment_files: Vec<String>,
}

impl Service {
    /// Takes over what a text says. An empty value forgets those before; of commands the first one counts.
    fn read(&mut self, text: &str) {
        let text = text.replace("\\\n", " ");
        let mut in_service = false;
        for line in text.lines().map(str::trim) {
            if line.starts_with('[') {
                in_service = line == "[Service]";
                continue;
            }
            let Some((key, value)) = line.split_once('=').filter(|_| in_service) else { continue };
            let value = Some(value.trim()).filter(|value| !value.is_empty()).map(str::to_owned);
            let add = |values: &mut Vec<String>, value: Option<String>| match value {
                Some(value) => values.push(value),
                None => values.clear(),
            };
            match key.trim_end() {
                "ExecStart" => self.command = value.map(|value| self.command.take().unwrap_or(value)),
                // A home directory is not known here.
                "WorkingDirectory" => {
                    self.working_dir = value.map(|dir| dir.trim_start_matches('-').to_owned()).filter(|dir| dir.starts_with('/'));
                }
                "Environment" => add(&mut self.environment, value),
                "EnvironmentFile" => add(&mut self.environment_files, value),
                _ => {}
            }
        }
    }
}

/// What stands behind the `@` of a unit's name.
fn instance_of(stem: &str) -> &str {
    stem.split_once('@').map(|(_, instance)| instance).unwrap_or_default()
}

/// The path of an `EnvironmentFile=`; a dash before it says that the file may be missing.
fn environment_path(value: &str, stem: &str) -> String {
    expand(value.strip_prefix('-').unwrap_or(value), stem, instance_of(stem))
}

/// Puts in the values of variables: `${NAME}` anywhere, and `$NAME` that is a word of its own, which becomes as many words as its value
/// has. A variable that nothing sets is empty, as it is for systemd.
fn put_in_variables(words: Vec<String>, environment: &BTreeMap<String, String>, unknown: &mut Vec<String>) -> Vec<String> {
    let mut value_of = |name: &str| match environment.get(name) {
        Some(value) => value.clone(),
        None => {
            if !unknown.iter().any(|known| known == name) {
                unknown.push(name.to_owned());
            }
            String::new()
        }
    };
    let is_name = |name: &str| {
        !name.is_empty()
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    let mut put_in = Vec::with_capacity(words.len());
    for word in words {
        if let Some(name) = word.strip_prefix('$').filter(|name| is_name(name)) {
            put_in.extend(split_words(&value_of(name)));
            continue;
        }
        let mut whole = String::with_capacity(word.len());
        let mut rest = word.as_str();
        while let Some((before, after)) = rest.split_once('$') {
            whole.push_str(before);
            rest = after;
            if let Some(after) = rest.strip_prefix('$') {
                whole.push('$');
                rest = after;
            } else if let Some((name, after)) =
                rest.strip_prefix('{').and_then(|rest| rest.split_once('}')).filter(|(name, _)| is_name(name))
            {
                whole.push_str(&value_of(name));
                rest = after;
            } else {
                whole.push('$');
            }
        }
        whole.push_str(rest);
        put_in.push(whole);
    }
    put_in
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
    fn variables_of_units_and_of_their_files_are_put_in() {
        let unit = "[Service]\nEnvironment=\"OPTS=ip:10.5.7.7 port:1502\" DIR=/etc/own\nEnvironmentFile=-/etc/default/%p\n\
            ExecStart=/usr/local/bin/gcom_modbus_client ${DIR}/%i.json $OPTS ${NOBODY} $$x\n";
        let drop_in =
            [("gcom_modbus_client@a.service", "x.conf", "[Service]\nEnvironment=DIR=/etc/dropped\nWorkingDirectory=/srv\n")];
        let mut files = files(&[("gcom_modbus_client@.service", unit)], &drop_in, &["gcom_modbus_client@a.service"]);
        assert_eq!(files.environment_paths().into_iter().collect::<Vec<_>>(), ["/etc/default/gcom_modbus_client"]);
        let overrides = |starter: &Starter| {
            starter.launch.overrides.iter().map(|(key, value)| format!("{key}:{value}")).collect::<Vec<_>>().join(" ")
        };
        let starter = files.starters().remove(0);
        assert_eq!((overrides(&starter).as_str(), starter.working_dir.as_deref()), ("ip:10.5.7.7 port:1502", Some("/srv")));
        assert_eq!(
            (starter.launch.files.as_slice(), starter.unknown_variables.as_slice()),
            (&["/etc/dropped/a.json".to_owned(), "$x".to_owned()][..], &["NOBODY".to_owned()][..])
        );
        let text = "# of the site\nOPTS = 'ip:10.5.8.8'\nNOBODY=\n".to_owned();
        files.environment_files.insert("/etc/default/gcom_modbus_client".to_owned(), text);
        let starter = files.starters().remove(0);
        assert_eq!((overrides(&starter).as_str(), starter.unknown_variables.len()), ("ip:10.5.8.8", 0));
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
            let command = format!("[Service]\nEnvironment={text}\nExecStart={text} ${{A}}{text}");
            let _ = files(&[("modbus_client@.service", &command)], &[], &[&unit]).starters();
        }
    }
}
