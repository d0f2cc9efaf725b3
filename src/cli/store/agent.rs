//! `winsign store agent`: carries out operations of a check on one node.
//!
//! It writes a greeting to standard output, then reads one request a line from standard input and answers each on one line. It
//! ends when its standard input is closed, also in the middle of an operation; the agent that has created the folder of the
//! check then removes it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Args;
use rustix::process::{Signal, getpid, kill_process};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use winsign_core::lease::{self, Lease};
use winsign_core::{Diagnostic, Store, disk, error, exit, files, owner};

use super::mount::Mount;

#[derive(Args)]
pub(crate) struct Arguments {
    /// The folder of the check
    folder: PathBuf,
    /// Create the folder of the check in this directory, or in its parent if it does not exist; remove it at the end
    #[arg(long)]
    create: bool,
}

/// What an agent can do in the folder of the check.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Request {
    /// Replaces a file in one step.
    Write { name: String, text: String },
    /// Reads a file after opening the directory.
    Read { name: String },
    /// Creates a file exclusively; answers true if this agent did.
    Create { name: String },
    /// Looks once; answers true if the content is seen.
    Look(Look),
    /// Looks until the content is seen; answers false if it is not seen within this time.
    Await(Look, Duration),
    /// Writes a file; answers with [`Times`].
    Stamp { name: String },
    /// Replaces a file this many times, each time with other content, and at last with [`LAST`].
    Replace { name: String, times: usize },
    /// Reads a file until its content is [`LAST`]; answers with [`Reads`].
    ReadWhole { name: String },
    /// Measures operations, each at most this many times and within this time; answers with a list of [`Operation`].
    Measure { times: usize, within: Duration },
    /// Syncs a directory; answers false if the file system cannot.
    SyncDirectory,
    /// Takes a lease; answers with its holder if there is one, and with null if it was taken.
    TakeLease { name: String },
    /// Watches a lease; answers true if its holder is lost.
    IsLost { name: String },
    /// Kills the agent.
    Die,
}

/// A look at a file that another node writes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Look {
    pub(super) name: String,
    pub(super) way: Way,
}

/// A way of looking at a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Way {
    /// Whether the name exists.
    Name,
    /// Whether the name exists, after opening the directory.
    OpenedName,
    /// Whether the directory lists the name.
    Listing,
    /// Whether the content is [`NEW`].
    Content,
}

/// The content of a file that was replaced.
pub(super) const NEW: &str = "new";
/// The last content of a file that is replaced again and again: this byte only.
const LAST: u8 = b'z';
/// The length of these contents, large enough for several writes to a server.
const LENGTH: usize = 256 * 1024;
/// The time for which the last content is awaited.
const READING: Duration = Duration::from_secs(60);

/// An operation that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Failure {
    pub(super) message: String,
    /// What helps, as an imperative.
    pub(super) help: Option<String>,
    /// The name of the node, unless it is known from where the failure comes.
    pub(super) node: Option<String>,
}

impl Failure {
    pub(super) fn new(message: String, help: &str) -> Failure {
        Failure { message, help: Some(help.to_string()), node: None }
    }
}

impl From<error::Error> for Failure {
    fn from(error: error::Error) -> Failure {
        let Diagnostic { message, help, .. } = error.into();
        Failure { message, help, node: None }
    }
}

/// The first line of an agent, unless it fails: facts about the node, the directory, and its file system.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Greeting {
    pub(super) host: String,
    /// The directory of the check: the store, or its parent if it does not exist.
    pub(super) directory: PathBuf,
    pub(super) mount: Option<Mount>,
    pub(super) access: Access,
    pub(super) space: Space,
    /// The folder of the check, which is a store of its own.
    pub(super) folder: Result<PathBuf, Failure>,
    /// True if files are created exclusively by directories as locks, since there are no hard links.
    pub(super) without_links: bool,
}

/// The owner and the permissions of a directory, and the user of the agent.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Access {
    pub(super) mode: u32,
    pub(super) owner: u32,
    pub(super) group: u32,
    pub(super) user: u32,
    pub(super) own_group: u32,
    pub(super) umask: u32,
}

/// The free space of a file system, for this user.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Space {
    pub(super) bytes: u64,
    /// `None` if the file system does not count files.
    pub(super) files: Option<u64>,
}

/// The times at which a file was written, in seconds since 1970.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Times {
    /// By the clock of the node.
    pub(super) node: f64,
    /// By the file system.
    pub(super) file: f64,
}

/// How often a file was read while it was being replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Reads {
    pub(super) whole: usize,
    /// Reads of content that was never written, or of no file.
    pub(super) broken: usize,
    /// True if the last content was read.
    pub(super) complete: bool,
}

/// The time that an operation takes, in seconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Operation {
    pub(super) operation: String,
    pub(super) median: f64,
    pub(super) maximum: f64,
}

pub(super) fn command(arguments: &Arguments) -> Result<u8, Diagnostic> {
    let greeting = begin(arguments);
    print(&greeting);
    let Ok(Greeting { folder, .. }) = greeting else { return Ok(exit::IO) };
    let requests = read_requests(folder.clone().ok().filter(|_| arguments.create));
    let Ok(folder) = folder else { return wait_for_end(&requests) };
    let mut agent = Agent { folder, lease: None };
    for request in requests {
        print(&serde_json::from_str(&request).map_err(malformed).and_then(|request| agent.carry_out(request)));
    }
    Ok(exit::SUCCESS)
}

/// Creates or finds the folder of the check, and gathers the facts.
fn begin(Arguments { folder, create }: &Arguments) -> Result<Greeting, Failure> {
    let directory = existing(if *create { folder } else { folder.parent().unwrap_or(folder) })?;
    let folder = match create {
        true => create_folder(&directory),
        false => find_folder(folder),
    };
    greet(directory, folder)
}

/// What helps if an agent and its caller do not understand each other.
pub(super) const SAME_VERSION: &str = "use the same version of winsign on all nodes";

fn malformed(error: serde_json::Error) -> Failure {
    Failure::new(format!("cannot read the request: {error}"), SAME_VERSION)
}

/// Answers nothing until standard input is closed.
fn wait_for_end(requests: &mpsc::Receiver<String>) -> Result<u8, Diagnostic> {
    requests.iter().for_each(drop);
    Ok(exit::SUCCESS)
}

/// Writes a line of JSON; errors are ignored, since the end of standard input follows.
fn print(value: &impl Serialize) {
    let line = serde_json::to_string(value).expect("answers are plain data");
    let mut stdout = io::stdout().lock();
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}

/// Passes on the lines of standard input. Ends the process when it is closed, after removing a folder.
fn read_requests(to_remove: Option<PathBuf>) -> mpsc::Receiver<String> {
    let (sender, requests) = mpsc::channel();
    std::thread::spawn(move || {
        for line in io::stdin().lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
        to_remove.iter().for_each(|folder| remove_folder(folder));
        std::process::exit(exit::SUCCESS.into());
    });
    requests
}

/// Removes a folder in which other agents may just be ending.
fn remove_folder(folder: &Path) {
    const TRIES: u32 = 50;
    for _ in 0..TRIES {
        if fs::remove_dir_all(folder).is_ok() {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Returns the directory, or the nearest one above it that exists.
fn existing(directory: &Path) -> Result<PathBuf, error::Error> {
    let directory = std::path::absolute(directory).map_err(error::Error::io("find", directory))?;
    for directory in directory.ancestors() {
        if disk::exists(directory).map_err(error::Error::io("read", directory))? {
            return Ok(directory.to_path_buf());
        }
    }
    unreachable!("the root directory exists")
}

/// Creates the folder of the check, and makes it a store.
fn create_folder(directory: &Path) -> Result<PathBuf, Failure> {
    let folder = directory.join(format!(".check-{}-{}", owner::host(), std::process::id()));
    let created = files::create_directory(&folder).and_then(|()| Store::create(&folder));
    created.map(|_| folder.clone()).map_err(|error| {
        let _ = fs::remove_dir_all(&folder);
        error.into()
    })
}

/// Returns the folder of the check, which another agent has created.
fn find_folder(folder: &Path) -> Result<PathBuf, Failure> {
    files::refresh(folder.parent().unwrap_or(folder))?;
    match files::exists(folder)? {
        true => Ok(folder.to_path_buf()),
        false => Err(Failure::new(
            format!("it does not see {}, which another node has created", folder.display()),
            "choose a directory that the nodes share",
        )),
    }
}

fn greet(directory: PathBuf, folder: Result<PathBuf, Failure>) -> Result<Greeting, Failure> {
    let facts = disk::persist(&directory, || Ok((fs::metadata(&directory)?, rustix::fs::statvfs(&directory)?)));
    let (found, space) = facts.map_err(error::Error::io("read", &directory))?;
    let access = Access {
        mode: found.mode(),
        owner: found.uid(),
        group: found.gid(),
        user: rustix::process::geteuid().as_raw(),
        own_group: rustix::process::getegid().as_raw(),
        umask: umask(),
    };
    let files = Some(space.f_favail).filter(|_| space.f_files > 0);
    let without_links = folder.as_ref().is_ok_and(|folder| has_no_links(folder));
    Ok(Greeting {
        host: owner::host(),
        mount: Mount::holding(&directory),
        access,
        space: Space { bytes: space.f_bavail * space.f_frsize, files },
        without_links,
        folder,
        directory,
    })
}

/// Returns true if the store records that it has no hard links.
fn has_no_links(folder: &Path) -> bool {
    let marker = files::read_if_exists(&folder.join("store.json")).ok().flatten().unwrap_or_default();
    serde_json::from_slice(&marker).is_ok_and(|marker: Value| marker["exclusive"] == "directories")
}

/// Returns the bits that new files do not get; 0 if they are not known.
fn umask() -> u32 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let umask = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    umask.and_then(|umask| u32::from_str_radix(umask.trim(), 8).ok()).unwrap_or(0)
}

/// The operation that waits for the disk.
pub(super) const SYNCED_WRITE: &str = "write and sync";

struct Agent {
    folder: PathBuf,
    lease: Option<Lease>,
}

type Answer = Result<Value, Failure>;

impl Agent {
    fn carry_out(&mut self, request: Request) -> Answer {
        match request {
            Request::Write { name, text } => Ok(json!(files::write_ephemeral(&self.path(&name), text.as_bytes())?)),
            Request::Read { name } => self.read(&name),
            Request::Create { name } => {
                Ok(json!(files::create_exclusive(&self.path(&name), owner::host().as_bytes())?))
            }
            Request::Look(look) => self.sees(&look),
            Request::Await(look, limit) => self.wait_until_seen(&look, limit),
            Request::Stamp { name } => self.stamp(&name),
            Request::Replace { name, times } => self.replace(&name, times),
            Request::ReadWhole { name } => self.read_while_replaced(&name),
            Request::Measure { times, within } => self.measure(times, within),
            Request::SyncDirectory => self.sync_directory(),
            Request::TakeLease { name } => self.take_lease(&name),
            Request::IsLost { name } => Ok(json!(owner::is_lost(&self.path(&name))?)),
            Request::Die => {
                let killed = kill_process(getpid(), Signal::KILL);
                unreachable!("a killed process ends: {killed:?}")
            }
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn read(&self, name: &str) -> Answer {
        files::refresh(&self.folder)?;
        let bytes = files::read_if_exists(&self.path(name))?;
        Ok(json!(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())))
    }

    fn sees(&self, look: &Look) -> Answer {
        let path = self.path(&look.name);
        Ok(json!(match look.way {
            Way::Name => files::exists(&path)?,
            Way::OpenedName => {
                files::refresh(&self.folder)?;
                files::exists(&path)?
            }
            Way::Listing => files::names(&self.folder)?.contains(&look.name),
            Way::Content => files::read_if_exists(&path)?.is_some_and(|bytes| bytes == NEW.as_bytes()),
        }))
    }

    fn wait_until_seen(&self, look: &Look, limit: Duration) -> Answer {
        const INTERVAL: Duration = Duration::from_millis(5);
        let began = Instant::now();
        loop {
            let sees = self.sees(look)?;
            if sees == true || began.elapsed() > limit {
                return Ok(sees);
            }
            std::thread::sleep(INTERVAL);
        }
    }

    fn stamp(&self, name: &str) -> Answer {
        let path = self.path(name);
        let since_1970 = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let written = disk::persist(&path, || {
            fs::write(&path, b"x")?;
            Ok(Times { node: since_1970(SystemTime::now()), file: since_1970(fs::metadata(&path)?.modified()?) })
        });
        Ok(json!(written.map_err(error::Error::io("write", &path))?))
    }

    fn replace(&self, name: &str, times: usize) -> Answer {
        let letters = (b'a'..LAST).cycle().take(times).chain([LAST]);
        for letter in letters {
            files::write_ephemeral(&self.path(name), &vec![letter; LENGTH])?;
        }
        Ok(Value::Null)
    }

    fn read_while_replaced(&self, name: &str) -> Answer {
        let path = self.path(name);
        let mut reads = Reads { whole: 0, broken: 0, complete: false };
        let began = Instant::now();
        while !reads.complete && began.elapsed() < READING {
            let found = files::read_if_exists(&path)?;
            if found.is_none() && reads.whole + reads.broken == 0 {
                // The writer has not begun.
                files::refresh(&self.folder)?;
                continue;
            }
            let bytes = found.unwrap_or_default();
            match is_whole(&bytes) {
                true => reads.whole += 1,
                false => reads.broken += 1,
            }
            reads.complete = bytes.first() == Some(&LAST);
        }
        Ok(json!(reads))
    }

    fn sync_directory(&self) -> Answer {
        match disk::persist(&self.folder, || File::open(&self.folder)?.sync_all()) {
            Ok(()) => Ok(json!(true)),
            // Fails unless the error is that the file system cannot.
            Err(_) => Ok(json!(disk::sync_directory(&self.folder).map(|()| false).map_err(self.failed("sync"))?)),
        }
    }

    fn failed(&self, action: &'static str) -> impl FnOnce(io::Error) -> error::Error {
        error::Error::io(action, &self.folder)
    }

    fn take_lease(&mut self, name: &str) -> Answer {
        Ok(match lease::take(&self.path(name))? {
            Ok(lease) => {
                self.lease = Some(lease);
                Value::Null
            }
            Err(holder) => json!(holder.to_string()),
        })
    }

    fn measure(&self, times: usize, within: Duration) -> Answer {
        let (file, other) = (self.path("measured"), self.path("measured-too"));
        let block = [7; 4096];
        let operations: [(&str, &dyn Fn() -> io::Result<()>); 6] = [
            ("write", &|| fs::write(&file, block)),
            (SYNCED_WRITE, &|| {
                let mut written = File::create(&file)?;
                written.write_all(&block)?;
                written.sync_all()
            }),
            ("stat", &|| fs::metadata(&file).map(drop)),
            ("open and read", &|| fs::read(&file).map(drop)),
            ("list", &|| fs::read_dir(&self.folder)?.try_for_each(|entry| entry.map(drop))),
            ("write and rename", &|| fs::write(&other, block).and_then(|()| fs::rename(&other, &file))),
        ];
        let mut measured = vec![];
        for (operation, act) in operations {
            let (median, maximum) = measure(&file, times, within, act).map_err(self.failed(operation))?;
            measured.push(Operation { operation: operation.to_string(), median, maximum });
        }
        Ok(json!(measured))
    }
}

/// Returns true if content is one of those that replace each other.
fn is_whole(bytes: &[u8]) -> bool {
    bytes.len() == LENGTH && bytes.iter().all(|byte| *byte == bytes[0])
}

/// Returns the median and the maximum of the seconds that an operation takes.
fn measure(path: &Path, times: usize, within: Duration, act: impl Fn() -> io::Result<()>) -> io::Result<(f64, f64)> {
    let began = Instant::now();
    let mut seconds = vec![];
    while seconds.len() < times && (seconds.is_empty() || began.elapsed() < within) {
        let begins = Instant::now();
        disk::persist(path, &act)?;
        seconds.push(begins.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    Ok((seconds[seconds.len() / 2], seconds[seconds.len() - 1]))
}
