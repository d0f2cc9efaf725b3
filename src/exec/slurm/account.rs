//! The limits of a user on submitted jobs, from the accounting database.

use std::env;
use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use super::client::plain;
use crate::batch::profile::Profile;

/// Returns how many jobs this user may have in the queue of a cluster with the account and the QOS of a profile; `None` if
/// there is no limit, or if it is not known. Limits that all users of an account share and those of partitions are not read, and a site may hide all of
/// them: sbatch then rejects what is too much.
pub(super) fn limit(profile: &Profile, cluster: &str) -> Option<u32> {
    let user = answer(Command::new("id").arg("-un"))?;
    let associations = answer(plain("sacctmgr").args(["--noheader", "--parsable2", "show", "associations"]).args([
        &format!("user={}", user.trim()),
        &format!("cluster={cluster}"),
        "format=account,defaultqos,maxsubmitjobs",
    ]))?;
    let all_qos =
        answer(plain("sacctmgr").args(["--noheader", "--parsable2", "show", "qos"]).arg("format=name,maxsubmitpu"))?;
    let chosen = |setting: &Option<String>, variable: &str| setting.clone().or_else(|| env::var(variable).ok());
    let account = chosen(&profile.account, "SBATCH_ACCOUNT");
    limit_of(&associations, &all_qos, account.as_deref(), chosen(&profile.qos, "SBATCH_QOS").as_deref())
}

/// The time after which a command is killed. The database may not respond for minutes.
const PATIENCE: Duration = Duration::from_secs(5);

/// Returns the output of a command that succeeds within [`PATIENCE`].
fn answer(command: &mut Command) -> Option<String> {
    answer_within(PATIENCE, command)
}

fn answer_within(patience: Duration, command: &mut Command) -> Option<String> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()?;
    let mut stdout = child.stdout.take()?;
    let (sender, receiver) = mpsc::channel();
    // Children of a killed command may keep the pipe open.
    std::thread::spawn(move || {
        let mut text = String::new();
        let _ = sender.send(stdout.read_to_string(&mut text).ok().map(|_| text));
    });
    let text = receiver.recv_timeout(patience).ok().flatten();
    if text.is_none() {
        let _ = child.kill();
    }
    let status = child.wait().ok()?;
    text.filter(|_| status.success())
}

/// Returns the limit of a user with an account and a QOS; that of the QOS takes precedence over that of the account. If several
/// accounts are possible, this is the highest of their limits.
fn limit_of(associations: &str, all_qos: &str, account: Option<&str>, qos: Option<&str>) -> Option<u32> {
    let associations = associations.lines().filter_map(Association::parse);
    let possible =
        associations.filter(|association| account.is_none_or(|name| name.eq_ignore_ascii_case(association.account)));
    let limits = possible.map(|association| {
        let of_qos = limit_of_qos(all_qos, qos.unwrap_or(association.default_qos));
        of_qos.or(association.limit).unwrap_or(u32::MAX)
    });
    limits.max().filter(|limit| *limit < u32::MAX)
}

/// The membership of a user in an account.
struct Association<'a> {
    account: &'a str,
    default_qos: &'a str,
    limit: Option<u32>,
}

impl Association<'_> {
    fn parse(line: &str) -> Option<Association<'_>> {
        let fields: Vec<&str> = line.split('|').collect();
        let &[account, default_qos, limit] = fields.as_slice() else { return None };
        Some(Association { account, default_qos, limit: limit.parse().ok() })
    }
}

fn limit_of_qos(all_qos: &str, name: &str) -> Option<u32> {
    let (_, limit) = all_qos.lines().filter_map(|line| line.split_once('|')).find(|(qos, _)| *qos == name)?;
    limit.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn command_that_does_not_respond_is_killed() {
        let start = Instant::now();
        let answer = |script| answer_within(Duration::from_secs(1), Command::new("sh").args(["-c", script]));
        assert_eq!(answer("sleep 60; echo late"), None);
        assert!(start.elapsed() < Duration::from_secs(30));
        assert_eq!((answer("echo a"), answer("echo a; exit 1")), (Some("a\n".to_string()), None));
    }

    #[test]
    fn limit_of_the_qos_takes_precedence_over_that_of_the_account() {
        const ASSOCIATIONS: &str = "lab|normal|7\nother||3\n";
        const ALL_QOS: &str = "normal|4\nscavenger|\nlong|9\n";
        let limit = |account, qos| limit_of(ASSOCIATIONS, ALL_QOS, account, qos);
        assert_eq!(limit(Some("lab"), None), Some(4));
        assert_eq!(limit(Some("lab"), Some("scavenger")), Some(7));
        assert_eq!(limit(Some("LAB"), Some("long")), Some(9));
        assert_eq!(limit(Some("other"), None), Some(3));
        assert_eq!(limit(None, None), Some(4), "the account is not known");
        assert_eq!(limit(Some("unknown"), None), None);
        assert_eq!(limit_of("lab||\n", ALL_QOS, None, None), None);
    }
}
