//! Profiles: the settings of one cluster in one file, so that sweep files are the same everywhere.
//!
//! A profile is read by the declarations of its keys (`keys`), and checked by its scheduler. The position of each setting is
//! kept, so that errors point at it.

pub mod keys;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value as Json;
use winsign_sweep::keys::{Block, Key, Named};
use winsign_sweep::yaml::{self, Content, Diagnostic, Place, listed, nearest, quoted};

use super::scheduler::{self, Scheduler};
use crate::launcher;
pub use keys::PROFILE;

/// The directory of profiles in a project.
const OF_PROJECT: &str = "launch/profiles";

/// The settings of a cluster. Its serde form is that of the file, with the source of each setting.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Profile {
    /// The path of the file; `None` for the defaults.
    #[serde(serialize_with = "as_text")]
    pub path: Option<PathBuf>,
    /// The name of a launcher or a command, see [`crate::launcher::named`].
    pub launcher: String,
    /// The kind of MPI that `srun` starts, as in `srun --mpi=pmix`.
    pub mpi: String,
    /// A name in [`scheduler::SCHEDULERS`].
    #[serde(deserialize_with = "known_scheduler")]
    pub scheduler: String,
    pub cluster: Option<String>,
    pub partition: Option<String>,
    pub account: Option<String>,
    pub qos: Option<String>,
    pub constraint: Option<String>,
    /// A job's time limit, as the scheduler writes it.
    pub time: Option<String>,
    /// A node's memory for a job, as the scheduler writes it.
    pub memory: Option<String>,
    /// By how much the memory of a task that ran out of it is multiplied.
    pub memory_growth: Option<f64>,
    pub max_memory: Option<String>,
    /// The seconds before its time limit at which a job is signaled to save its checkpoint.
    pub grace: u32,
    /// True if a job that stops early is queued again.
    pub requeue: bool,
    pub gpu_type: Option<String>,
    /// A word of [`keys::GPU_OPTIONS`].
    pub gpu_option: String,
    pub gpus_per_node: Option<u32>,
    pub ranks_per_node: Option<u32>,
    /// Runs in one task of an array.
    pub pack: u32,
    /// The number of these that run at the same time.
    pub side_by_side: u32,
    /// The maximum number of tasks that run at the same time.
    pub max_running: Option<u32>,
    /// The maximum number of tasks in the queue.
    pub max_submit: Option<u32>,
    /// Lines of shell, run in a job before anything else.
    pub setup: String,
    /// Further options of sbatch, each begins with `-`.
    pub sbatch: Vec<String>,
    pub(super) source: Source,
}

/// The sources of the settings of a profile.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Source {
    /// The file as it was read.
    text: String,
    /// The positions of the settings in the file; for `sbatch`, of each line.
    places: BTreeMap<String, Vec<Place>>,
    /// The settings that the command line gives instead.
    overridden: BTreeSet<String>,
}

impl Default for Profile {
    fn default() -> Profile {
        Profile {
            path: None,
            scheduler: default("scheduler"),
            launcher: default("launcher"),
            mpi: default("mpi"),
            cluster: None,
            partition: None,
            account: None,
            qos: None,
            constraint: None,
            time: None,
            memory: None,
            memory_growth: None,
            max_memory: None,
            grace: default("grace"),
            requeue: default("requeue"),
            gpu_type: None,
            gpu_option: default("gpu_option"),
            gpus_per_node: None,
            ranks_per_node: None,
            pack: default("pack"),
            side_by_side: default("side_by_side"),
            max_running: None,
            max_submit: None,
            setup: String::new(),
            sbatch: vec![],
            source: Source::default(),
        }
    }
}

/// Returns the declared default of a key.
fn default<T: DeserializeOwned>(name: &str) -> T {
    let value = keys::key(name).and_then(Key::constant).expect("the key has a constant default");
    serde_json::from_value(value.into()).expect("the default has the type of the field")
}

impl Profile {
    /// Returns the profile that `--profile` names: a path, or the name of one in `launch/profiles/` under the current directory
    /// or in the user's directory.
    pub fn find(name: &str) -> Result<Profile, Diagnostic> {
        let mut folders = vec![PathBuf::from(OF_PROJECT)];
        folders.extend(folder_of_user(env::var_os("XDG_CONFIG_HOME").map(PathBuf::from), env::home_dir()));
        Profile::find_in(&folders, name)
    }

    fn find_in(folders: &[PathBuf], name: &str) -> Result<Profile, Diagnostic> {
        if name.contains('/') || name.ends_with(".yaml") || name.ends_with(".yml") {
            return Profile::read(Path::new(name));
        }
        let file = |folder: &PathBuf| folder.join(format!("{name}.yaml"));
        match folders.iter().map(file).find(|path| path.is_file()) {
            Some(path) => Profile::read(&path),
            None => Err(no_such_profile(folders, name)),
        }
    }

    /// Reads a profile.
    pub fn read(path: &Path) -> Result<Profile, Diagnostic> {
        let name = path.display().to_string();
        let text = yaml::read_text(path, &PROFILE).map_err(|fault| fault.in_file(&name, ""))?;
        Profile::parse(path, &text)
    }

    /// Parses the text of a profile.
    pub fn parse(path: &Path, text: &str) -> Result<Profile, Diagnostic> {
        parse_settings(path, text).map_err(|fault| fault.in_file(&path.display().to_string(), text))
    }

    /// Returns the profile with settings of the command line instead of its own, by their names in the file. The option has the
    /// name of the setting: `--side-by-side` for `side_by_side`. `sbatch` adds a line.
    pub fn with_options<'a>(
        mut self,
        options: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Profile, Diagnostic> {
        let on_command_line = |fault: Diagnostic| fault.in_file("command line", "");
        for (name, text) in options {
            let label = format!("--{}", name.replace('_', "-"));
            let key = keys::key(name).expect("options are named after keys");
            let value = key.read_option(&label, text).map_err(on_command_line)?;
            if key.name == "sbatch" {
                // These add up: Slurm takes the later of two.
                let further = serde_json::from_value::<Vec<String>>(value).expect("options are lines");
                self.sbatch.extend(further);
                self.source.overridden.insert(key.name.to_string());
                continue;
            }
            self.put(key, value);
            self.source.places.remove(key.name);
            self.source.overridden.insert(key.name.to_string());
        }
        // A smaller pack implies fewer runs at the same time.
        if !self.source.overridden.contains("side_by_side") {
            self.side_by_side = self.side_by_side.min(self.pack);
        }
        self.check().map_err(|fault| self.place(fault))?;
        Ok(self)
    }

    pub fn scheduler(&self) -> &'static dyn Scheduler {
        scheduler::find(&self.scheduler).expect("it was checked when it was read")
    }

    /// Returns the time limit of a job, or `None` without one.
    pub fn time_limit(&self) -> Option<Duration> {
        let seconds = (self.scheduler().time_form().seconds)(self.time.as_ref()?)?;
        (seconds > 0).then(|| Duration::from_secs(seconds))
    }

    /// Returns true if the file or the command line has a setting.
    pub(crate) fn gives(&self, setting: &str) -> bool {
        self.source.places.contains_key(setting) || self.source.overridden.contains(setting)
    }

    /// Returns the error of a setting, or of one line of it, at its place in the file.
    pub fn fault(&self, setting: &str, line: usize, message: String, help: impl Into<String>) -> Diagnostic {
        match self.source.places.get(setting).and_then(|places| places.get(line)) {
            Some(place) => Diagnostic::at(*place, message, help),
            None => Diagnostic::new(message, help),
        }
    }

    /// Returns the error of an option in `sbatch` that has a setting of its own.
    pub(crate) fn option_with_setting(&self, line: usize, option: &str, setting: &str) -> Diagnostic {
        let message = format!("{} has its own setting", quoted(option));
        let example = keys::key(setting).map_or("", |key| key.example);
        self.fault("sbatch", line, message, format!("write `{setting}: …` instead, as in `{setting}: {example}`"))
    }

    /// Returns the error of an option in `sbatch` that is not for users.
    pub(crate) fn option_of_winsign(&self, line: usize, option: &str) -> Diagnostic {
        let message = format!("{} is set by winsign, from the runs", quoted(option));
        self.fault("sbatch", line, message, "remove it; set the resources of runs in `resources` of the sweep")
    }

    fn place(&self, fault: Diagnostic) -> Diagnostic {
        let path = self.path.as_ref().map(|path| path.display().to_string());
        fault.in_file(&path.unwrap_or("without a profile".to_string()), &self.source.text)
    }

    /// Returns what to check if the scheduler rejects jobs: the settings that were given.
    pub fn settings_to_check(&self) -> String {
        let given = PROFILE.keys.iter().filter(|key| self.gives(key.name) && key.name != "setup");
        let given: Vec<String> = given.map(|key| format!("`{}: {}`", key.name, self.shown(key))).collect();
        let file = self.path.as_ref().map_or(String::new(), |path| format!(" in {}", path.display()));
        match given.is_empty() {
            true => "set what the site requires, such as `account` or `partition`, in a profile".to_string(),
            false => format!("check the settings{file}: {}", given.join(", ")),
        }
    }

    /// Returns the value of a setting as in a file.
    fn shown(&self, key: &Key) -> String {
        match &self.json()[key.name] {
            Json::String(text) => text.clone(),
            other => other.to_string(),
        }
    }

    /// Sets a setting to a value that was checked.
    fn put(&mut self, key: &Key, value: Json) {
        let mut fields = self.json();
        fields[key.name] = match value {
            Json::Array(lines) if key.name == "setup" => {
                lines.iter().filter_map(Json::as_str).collect::<Vec<_>>().join("\n").into()
            }
            value => value,
        };
        // Not every path survives as JSON.
        let path = self.path.take();
        *self = serde_json::from_value(fields).expect("the fields agree with the declarations");
        self.path = path;
    }

    fn json(&self) -> Json {
        serde_json::to_value(self).expect("a profile is plain data")
    }

    /// Checks that the limits of a job have the forms of the scheduler.
    fn check_limits(&self) -> Result<(), Diagnostic> {
        let (time, memory) = (self.scheduler().time_form(), self.scheduler().memory_form());
        if let Some(text) = self.time.as_ref().filter(|text| (time.seconds)(text).is_none()) {
            return Err(self.malformed("time", text, time.expects, time.example));
        }
        if let Some(text) = self.memory.as_ref().filter(|text| (memory.megabytes)(text).is_none()) {
            return Err(self.malformed("memory", text, memory.expects, memory.example));
        }
        match self.max_memory.as_ref().filter(|text| (memory.megabytes)(text).is_none_or(|most| most == 0)) {
            Some(text) => Err(self.malformed("max_memory", text, memory.expects, memory.example)),
            None => Ok(()),
        }
    }

    /// Returns the megabytes to request for a task that ran out of memory in a job with this many; `None` if more is not allowed, or
    /// nobody knows how much it had.
    pub fn more_memory(&self, megabytes: Option<u64>) -> Option<u64> {
        let amount = |text: &String| (self.scheduler().memory_form().megabytes)(text).filter(|amount| *amount > 0);
        let had = megabytes.or(self.memory.as_ref().and_then(amount))?;
        let wanted = (had as f64 * self.memory_growth?).ceil() as u64;
        let most = self.max_memory.as_ref().and_then(amount).unwrap_or(u64::MAX);
        Some(wanted.min(most)).filter(|more| *more > had)
    }

    /// Returns the error of a setting whose text does not have the form that the scheduler expects.
    fn malformed(&self, setting: &str, text: &str, expects: &str, example: &str) -> Diagnostic {
        let key = keys::key(setting).expect("a declared setting");
        let option = format!("--{setting}");
        let label = if self.source.overridden.contains(setting) { &option } else { setting };
        let example = Named { key, label }.example(example);
        let message = format!("`{label}` must be {expects}, found the text {}", quoted(text));
        self.fault(setting, 0, message, format!("for example `{example}`"))
    }

    /// Checks settings against each other.
    fn check(&self) -> Result<(), Diagnostic> {
        self.check_limits()?;
        if self.side_by_side > self.pack {
            let Profile { side_by_side, pack, .. } = self;
            let message = format!("`side_by_side: {side_by_side}` must not exceed `pack: {pack}`, the runs per task");
            return Err(self.fault(
                "side_by_side",
                0,
                message,
                format!("add `pack: {side_by_side}`, or lower `side_by_side`"),
            ));
        }
        if self.time_limit().is_some_and(|limit| limit.as_secs() <= self.grace.into()) {
            let at = if self.gives("grace") { "grace" } else { "time" };
            let time = self.time.as_deref().unwrap_or_default();
            let message = format!("`time: {time}` must be longer than the {} seconds of `grace`", self.grace);
            return Err(self.fault(
                at,
                0,
                message,
                "raise `time`, or lower `grace`, the time before the limit at which jobs are signaled to stop",
            ));
        }
        // Overriding the launcher on the command line must not require editing the file.
        let is_chosen = self.source.overridden.contains("launcher");
        if self.gives("mpi") && !is_chosen && !launcher::check(&self.launcher)?.uses_mpi_kind() {
            let message = format!("`mpi` has no effect with `launcher: {}`: it is used by `srun`", self.launcher);
            return Err(self.fault("mpi", 0, message, "remove it, or set `launcher: srun`"));
        }
        self.scheduler().check(self)
    }
}

/// Reads the name of a scheduler that this build has.
fn known_scheduler<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name = String::deserialize(deserializer)?;
    match scheduler::find(&name) {
        Some(_) => Ok(name),
        None => Err(D::Error::custom(format!("this version of winsign has no scheduler {}", quoted(&name)))),
    }
}

/// A path in which what is not UTF-8 is replaced.
fn as_text<S: Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    path.as_ref().map(|path| path.to_string_lossy()).serialize(serializer)
}

fn parse_settings(path: &Path, text: &str) -> Result<Profile, Diagnostic> {
    let root = yaml::parse(text, &PROFILE)?;
    let mut profile = Profile { path: Some(path.to_path_buf()), ..Profile::default() };
    profile.source.text = text.to_string();
    for (key, node) in PROFILE.entries(Block::Top, &root)?.iter() {
        let value = key.read(node)?;
        profile.put(key, value);
        let places = match &node.content {
            Content::List(items) => items.iter().map(|item| item.place).collect(),
            _ => vec![node.place],
        };
        profile.source.places.insert(key.name.to_string(), places);
    }
    if !profile.gives("launcher") {
        profile.launcher = profile.scheduler().default_launcher().to_string();
    }
    profile.check()?;
    Ok(profile)
}

/// Returns the directory of user profiles. The XDG standard requires relative paths in the variable to be ignored.
fn folder_of_user(config: Option<PathBuf>, home: Option<PathBuf>) -> Option<PathBuf> {
    let config = config.filter(|path| path.is_absolute()).or(home.map(|home| home.join(".config")))?;
    Some(config.join("winsign/profiles"))
}

fn no_such_profile(folders: &[PathBuf], name: &str) -> Diagnostic {
    let mut known: Vec<String> = folders.iter().flat_map(|folder| profiles_in(folder)).collect();
    known.sort();
    known.dedup();
    let searched = folders.iter().map(|folder| folder.display().to_string()).collect::<Vec<_>>().join(" and ");
    let names = || known.iter().map(String::as_str);
    let there_are = match known.as_slice() {
        [] => format!("create one in {searched}"),
        _ => format!("the profiles in {searched} are {}", listed(names())),
    };
    let help = match nearest(name, names()) {
        Some(meant) => format!("did you mean `{meant}`? {there_are}"),
        None => format!("{there_are}; a path must contain `/` or end in .yaml"),
    };
    Diagnostic::new(format!("cannot find the profile {}", quoted(name)), help).in_file("--profile", "")
}

fn profiles_in(folder: &Path) -> Vec<String> {
    let paths = folder.read_dir().into_iter().flatten().flatten().map(|entry| entry.path());
    let profiles = paths.filter(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    profiles.filter_map(|path| Some(path.file_stem()?.to_str()?.to_string())).collect()
}
