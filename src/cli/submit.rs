//! `winsign submit`: submits the remaining runs to a scheduler.

use std::collections::HashSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};
use winsign_core::grouping::distinct;
use winsign_core::text::{plural, printable};
use winsign_core::{Diagnostic, RunId, Store};
use winsign_exec::batch::profile::Profile;
use winsign_exec::batch::submission;
use winsign_exec::batch::submit::{self, DryRun, Request, Submitted};
use winsign_exec::{batch, launcher};
use winsign_sweep::plan::build::build;
use winsign_sweep::plan::survey::survey;
use winsign_sweep::plan::{Plan, PlannedRun};

use super::run::{find_worker, probe_data, probe_remaining_data};
use super::stages::totals;
use super::{Common, Execution, output, resources, store};

pub(crate) const HELP: &str = "\
Examples:
  winsign submit study.yaml                          submit all remaining runs
  winsign submit study.yaml --dry-run                print the scripts of the jobs
  winsign submit study.yaml --profile gpu-srun --time 4:00:00 --max-running 64
  winsign submit study.yaml --pack 8 --side-by-side 4
  winsign status study.yaml --watch                  on any node with access to the store

Runs become job arrays with the dependencies of their levels; no process keeps running on this
node. Jobs that reach their time limit or are preempted save a checkpoint and continue later. Runs
that are already queued are not submitted again; failed runs are. Jobs beyond the limits of the
cluster are submitted when others end. The programs are copied to the store, so rebuilding them
does not affect queued jobs.";

#[derive(Args)]
pub(crate) struct Arguments {
    /// The sweep file
    sweep: PathBuf,
    /// Print what would be submitted; write nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    cluster: Cluster,
    #[command(flatten)]
    resources: Ranks,
    #[command(flatten)]
    execution: Execution,
}

/// The profile, and options that override its settings.
#[derive(Args)]
pub(crate) struct Cluster {
    /// The profile of the cluster: a file, or a name in launch/profiles/ or ~/.config/winsign/profiles/
    #[arg(long, value_name = "NAME", env = "WINSIGN_PROFILE")]
    profile: Option<String>,
    /// The partition (or queue, with PBS), instead of the profile's
    #[arg(long)]
    partition: Option<String>,
    /// Account charged for the jobs, instead of the profile's
    #[arg(long)]
    account: Option<String>,
    /// The quality of service, instead of the profile's
    #[arg(long)]
    qos: Option<String>,
    /// The node features, instead of the profile's
    #[arg(long)]
    constraint: Option<String>,
    /// Time limit of a job, as the scheduler writes it, such as 4:00:00; a run that takes longer continues in the next job
    #[arg(long)]
    time: Option<String>,
    /// Runs per job
    #[arg(long, value_name = "K")]
    pack: Option<u32>,
    /// Runs of a pack executed at the same time; they share the job's GPUs
    #[arg(long, value_name = "K")]
    side_by_side: Option<u32>,
    /// Maximum number of jobs that run at the same time
    #[arg(long, value_name = "N")]
    max_running: Option<u32>,
    /// Maximum number of jobs in the queue; the rest are submitted as these end
    #[arg(long, value_name = "N")]
    max_submit: Option<u32>,
    /// A further option of sbatch (or qsub, with PBS), as in --sbatch=--exclusive; can be repeated
    #[arg(long, value_name = "OPTION", allow_hyphen_values = true)]
    sbatch: Vec<String>,
}

/// The processes and GPUs of a run.
#[derive(Args)]
pub(crate) struct Ranks {
    /// MPI processes per run [default: from the sweep file, or 1]
    #[arg(long, value_name = "N", value_parser = resources::ranks)]
    pub ranks: Option<u32>,
    /// GPUs per rank; with 0.25, ranks of four runs share one; 0 uses the CPU [default: from the sweep file, or none]
    #[arg(long, value_name = "X", value_parser = resources::gpus)]
    pub gpus: Option<f64>,
}

pub(crate) fn command(common: &Common, arguments: &Arguments) -> Result<u8, Diagnostic> {
    let plan = build(&winsign_sweep::read(&arguments.sweep)?);
    let profile = arguments.cluster.profile()?;
    let execution = execution(&plan, &arguments.execution, &arguments.resources)?;
    launcher::named(&profile.launcher, &execution.wanted(&profile))?;
    let worker = find_worker(arguments.execution.worker.as_deref())?;
    check_data(common, &plan, &execution.data)?;
    let submitter = Submitter { plan: &plan, profile: &profile, execution: &execution, worker: &worker, only: None };
    if arguments.dry_run {
        let store = Store::open(&submit::absolute(&common.store)?)?;
        return show(common, &plan, &submitter.dry_run(&store)?);
    }
    let store = Store::create(&submit::absolute(&common.store)?)?;
    store::warn_once(&store);
    let submitted = submitter.submit(&store)?;
    print(common, &plan, &submitted, &common.arguments_for(&arguments.sweep))
}

/// Fails if a data set of the remaining runs is missing or malformed, and warns if their directory is not on this machine.
fn check_data(common: &Common, plan: &Plan, data: &Path) -> Result<(), Diagnostic> {
    if data.exists() {
        let mut datasets = distinct(plan.runs.iter().map(|planned| planned.run.settings.problem().dataset)).into_iter();
        // Only if one is missing, it matters which runs remain, which takes a while to find out.
        return match datasets.try_for_each(|dataset| probe_data(dataset, data)) {
            Ok(()) => Ok(()),
            Err(_) => probe_remaining_data(plan, &survey(plan, &Store::open(&common.store)?)?, data),
        };
    }
    let reads_files = |planned: &PlannedRun| planned.run.settings.problem().dataset.facts().published_at.is_some();
    if plan.runs.iter().any(reads_files) {
        output::message(&format!(
            "warning: the directory of the data sets, {}, does not exist on this machine; name it with --data DIR if it \
             is elsewhere on the nodes",
            data.display()
        ));
    }
    Ok(())
}

/// A request to submit that lacks the store and the path of this program.
pub(crate) struct Submitter<'a> {
    pub plan: &'a Plan,
    pub profile: &'a Profile,
    pub execution: &'a submission::Execution,
    pub worker: &'a Path,
    pub only: Option<&'a HashSet<RunId>>,
}

impl Submitter<'_> {
    pub(crate) fn submit(&self, store: &Store) -> Result<Submitted, Diagnostic> {
        self.request(store, submit::submit)
    }

    fn dry_run(&self, store: &Store) -> Result<DryRun, Diagnostic> {
        self.request(store, submit::dry_run)
    }

    fn request<T>(
        &self,
        store: &Store,
        act: impl FnOnce(&Request) -> Result<T, batch::Error>,
    ) -> Result<T, Diagnostic> {
        let Submitter { plan, profile, execution, worker, only } = *self;
        let winsign =
            std::env::current_exe().map_err(winsign_core::Error::io("find the program", Path::new("winsign")))?;
        let request = Request { plan, store, profile, execution, winsign: &winsign, worker, only };
        Ok(act(&request)?)
    }
}

impl Cluster {
    /// Reads the profile and applies the options of the command line.
    fn profile(&self) -> Result<Profile, Diagnostic> {
        let profile = match &self.profile {
            Some(name) => Profile::find(name)?,
            None => Profile::default(),
        };
        let number = |number: Option<u32>| number.map(|number| number.to_string());
        // To run more runs at the same time than the profile packs, a pack must be larger.
        let pack = self.pack.or(self.side_by_side.filter(|&runs| runs > profile.pack));
        let options = [
            ("partition", self.partition.clone()),
            ("account", self.account.clone()),
            ("qos", self.qos.clone()),
            ("constraint", self.constraint.clone()),
            ("time", self.time.clone()),
            ("pack", number(pack)),
            ("side_by_side", number(self.side_by_side)),
            ("max_running", number(self.max_running)),
            ("max_submit", number(self.max_submit)),
        ];
        let options = options.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?)));
        let further = self.sbatch.iter().map(|option| ("sbatch", option.as_str()));
        profile.with_options(options.chain(further))
    }
}

/// Combines the command line with the sweep file; the command line takes precedence.
fn execution(plan: &Plan, execution: &Execution, ranks: &Ranks) -> Result<submission::Execution, Diagnostic> {
    let resources = plan.resources;
    Ok(submission::Execution {
        data: submit::absolute(&execution.data)?,
        threads: execution.threads.unwrap_or(resources.threads),
        ranks: ranks.ranks.unwrap_or(resources.ranks),
        gpus: ranks.gpus.or(resources.gpus).filter(|&gpus| gpus > 0.0),
        retries: resources.retries,
    })
}

/// Prints what would be submitted.
fn show(common: &Common, plan: &Plan, dry_run: &DryRun) -> Result<u8, Diagnostic> {
    let DryRun { submitted, scripts, variables } = dry_run;
    if common.json {
        let arrays = submitted.arrays.iter().zip(scripts);
        let arrays: Vec<_> = arrays
            .map(|(array, script)| json!({ "tasks": array.tasks.len(), "after": array.after, "script": script }))
            .collect();
        let variables = json!({ "used": variables.used, "ignored": variables.ignored });
        let (name, runs) = (&plan.name, submitted.runs);
        return output::json(&json!({ "name": name, "runs": runs, "arrays": arrays, "variables": variables }));
    }
    let mut text = String::new();
    for (number, (array, script)) in submitted.arrays.iter().zip(scripts).enumerate() {
        let _ = writeln!(text, "# ---- array {number}: {}{}", plural(array.tasks.len(), "task"), after(&array.after));
        text += script;
        text.push('\n');
    }
    for variable in &variables.used {
        let _ = writeln!(text, "# {} of this shell applies too: the profile has no such setting", printable(variable));
    }
    for variable in &variables.ignored {
        let _ = writeln!(text, "# {} of this shell is ignored", printable(variable));
    }
    let arrays = plural(submitted.arrays.len(), "array");
    let _ = writeln!(text, "# {}: {} in {arrays}; nothing was submitted", plan.name, plural(submitted.runs, "run"));
    output::text(&text)
}

fn after(arrays: &std::collections::BTreeSet<usize>) -> String {
    let names: Vec<String> = arrays.iter().map(usize::to_string).collect();
    match names.is_empty() {
        true => String::new(),
        false => format!(", after array {}", names.join(", ")),
    }
}

fn print(common: &Common, plan: &Plan, submitted: &Submitted, arguments: &str) -> Result<u8, Diagnostic> {
    match common.json {
        true => output::json(&json(plan, submitted)),
        false => output::text(&text(plan, submitted, arguments)),
    }
}

/// Describes the submission as JSON.
pub(crate) fn json(plan: &Plan, submitted: &Submitted) -> Value {
    json!({
        "name": plan.name,
        "submission": submitted.submission.as_ref().map(|submission| &submission.id),
        "runs": submitted.runs,
        "arrays": submitted.sent.arrays,
        "tasks": submitted.sent.tasks,
        "arrays_left": submitted.sent.left,
    })
}

/// Describes the submission as text.
pub(crate) fn text(plan: &Plan, submitted: &Submitted, arguments: &str) -> String {
    let sent = submitted.sent;
    let Some(submission) = &submitted.submission else {
        let rest = match sent.arrays {
            0 => "nothing to submit".to_string(),
            arrays => {
                format!("nothing new to submit; submitted {} that did not fit before", plural(arrays, "array"))
            }
        };
        return format!("{}: {rest}; {}\n", plan.name, totals(plan, &submitted.statuses));
    };
    let mut text = format!(
        "{}: {} submitted as {}, {} (submission {})\n",
        plan.name,
        plural(submitted.runs, "run"),
        plural(sent.arrays, "array"),
        plural(sent.tasks, "task"),
        submission.id
    );
    if sent.left > 0 {
        let left = plural(sent.left, "array");
        let _ = writeln!(text, "{left} more will be submitted when jobs end, within the limits of the cluster");
    }
    let _ = writeln!(text, "next: winsign status {arguments} --watch");
    text
}
