//! Tests of profiles: their meaning, and the errors of invalid or rejected ones.

use std::fs;
use std::time::Duration;

use winsign_sweep::keys::Kind;

use super::keys::KEYS;
use super::*;

const DOCUMENTATION: &str = include_str!("../../../../docs/reference/profiles.md");

fn parse(text: &str) -> Result<Profile, Diagnostic> {
    Profile::parse(Path::new("here.yaml"), text)
}

fn understood(text: &str) -> Profile {
    parse(text).unwrap_or_else(|error| panic!("{}", error.render(false)))
}

/// Returns the line of the file with a setting.
fn line_of(profile: &Profile, setting: &str) -> Option<usize> {
    Some(profile.source.places.get(setting)?.first()?.line)
}

#[test]
fn settings_are_read_and_know_their_lines() {
    let profile = understood(
        "\
# of a cluster
launcher: mpirun
partition: gpu,cpu
account: lottery
qos: high
constraint: \"[a100|h100]\"
time: 1-12:00:00
memory: 64G
grace: 60
requeue: false
gpu_type: a100
gpus_per_node: 4
ranks_per_node: 8
pack: 8
side_by_side: 4
max_running: 32
max_submit: 500
cluster: west
gpu_option: gpus-per-node
memory_growth: 1.5
max_memory: 128G
setup: |
  module load openmpi
  export NAME='a b'
sbatch:
  - --exclusive
  - --mail-type=FAIL
",
    );
    let text = |text: &str| Some(text.to_string());
    let expected = Profile {
        path: Some("here.yaml".into()),
        scheduler: "slurm".to_string(),
        launcher: "mpirun".to_string(),
        mpi: "pmix".to_string(),
        cluster: text("west"),
        partition: text("gpu,cpu"),
        account: text("lottery"),
        qos: text("high"),
        constraint: text("[a100|h100]"),
        time: text("1-12:00:00"),
        memory: text("64G"),
        memory_growth: Some(1.5),
        max_memory: text("128G"),
        grace: 60,
        requeue: false,
        gpu_type: text("a100"),
        gpu_option: "gpus-per-node".to_string(),
        gpus_per_node: Some(4),
        ranks_per_node: Some(8),
        pack: 8,
        side_by_side: 4,
        max_running: Some(32),
        max_submit: Some(500),
        setup: "module load openmpi\nexport NAME='a b'\n".to_string(),
        sbatch: vec!["--exclusive".to_string(), "--mail-type=FAIL".to_string()],
        source: profile.source.clone(),
    };
    assert_eq!(profile, expected);
    let lines = ["launcher", "partition", "max_submit", "sbatch", "mpi"].map(|setting| line_of(&profile, setting));
    assert_eq!(lines, [Some(2), Some(3), Some(17), Some(26), None]);
}

#[test]
fn empty_profile_has_defaults() {
    for text in ["", "# all of it\n# is commented out\n", "{}"] {
        let profile = understood(text);
        assert_eq!(
            profile,
            Profile { path: profile.path.clone(), source: profile.source.clone(), ..Profile::default() }
        );
    }
    assert_eq!(line_of(&Profile::default(), "partition"), None);
}

#[test]
fn memory_grows_up_to_its_limit() {
    let profile = understood("memory: 2G\nmemory_growth: 1.5\nmax_memory: 4G");
    assert_eq!(
        [None, Some(2_048), Some(3_072), Some(4_000)].map(|had| profile.more_memory(had)),
        [Some(3_072), Some(3_072), Some(4_096), Some(4_096)]
    );
    assert_eq!(profile.more_memory(Some(4_096)), None);
    assert_eq!(understood("memory: 2G").more_memory(Some(2_048)), None);
    assert_eq!(understood("memory_growth: 2").more_memory(None), None, "nobody knows how much it had");
    assert_eq!(understood("memory: 0\nmemory_growth: 2").more_memory(None), None, "it had all of the node");
}

#[test]
fn texts_are_as_they_are_written() {
    for text in ["695e0514", "2024", "0x1F", "1.50", "1e5", "true", ".inf", "007", "+3"] {
        assert_eq!(understood(&format!("# ψ₀\naccount: {text} # ψ₀")).account.as_deref(), Some(text));
    }
}

#[test]
fn numbers_are_times_and_memory() {
    let time = |text: &str| understood(&format!("time: {text}")).time.unwrap();
    for text in ["30", "90:30", "4:00:00", "08:00:00", "1-12", "1-12:30", "1-12:00:00", "UNLIMITED", "'30'", "0"] {
        assert_eq!(time(text), text.trim_matches('\''));
    }
    let memory = |text: &str| understood(&format!("memory: {text}")).memory.unwrap();
    assert_eq!(["4000", "0", "64G", "500m", "2TB"].map(memory), ["4000", "0", "64G", "500m", "2TB"]);
    let limit = |time: &str| understood(&format!("time: {time}")).time_limit();
    assert_eq!(limit("1-12:30"), Some(Duration::from_secs((36 * 60 + 30) * 60)));
    assert_eq!(limit("90:30"), Some(Duration::from_secs(90 * 60 + 30)));
    assert_eq!(limit("2:03:04"), Some(Duration::from_secs(2 * 3600 + 3 * 60 + 4)));
    assert_eq!(["0", "unlimited"].map(limit), [None, None]);
}

#[test]
fn lists_and_single_lines_are_equivalent() {
    assert_eq!(understood("sbatch: --exclusive").sbatch, ["--exclusive"]);
    assert_eq!(understood("constraint: >\n  a100 |\n  h100\n").constraint.as_deref(), Some("a100 | h100"));
    assert_eq!(understood("sbatch: ['-w node[1-4]', ' --nice ']").sbatch, ["-w node[1-4]", "--nice"]);
    assert_eq!(
        understood("setup:\n  - module purge\n  - module load openmpi").setup,
        "module purge\nmodule load openmpi"
    );
}

#[test]
fn bad_input_is_explained_at_its_place() {
    #[rustfmt::skip]
    let cases: &[(&str, usize, usize, &str, &str)] = &[
        // YAML
        ("partition: [", 1, 12, "cannot read this as YAML: unclosed bracket '['", "check the indentation"),
        ("pack: 1\ntime: 1\npack: 2", 3, 1, "`pack` is given twice", "keep one of the two"),
        ("pack: 1\n---\npack: 1", 3, 1, "a second YAML document begins here", "a profile is one document: remove the `---`"),
        ("- gpu", 1, 1, "a profile is a block of settings (`key: value`), found a list", "begin with `launcher: srun`"),
        // Keys
        ("pack: 1\npartion: gpu", 2, 1, "there is no setting `partion` in a profile", "did you mean `partition`?"),
        ("mem: 4G", 1, 1, "there is no setting `mem` in a profile", "did you mean `memory`?"),
        ("side-by-side: 2", 1, 1, "there is no setting `side-by-side` in a profile", "did you mean `side_by_side`?"),
        ("--signal: USR1@60", 1, 1, "there is no setting `--signal` in a profile", "did you mean `grace`?"),
        ("threads: 2", 1, 1, "there is no setting `threads` in a profile", "the settings are `launcher`, `mpi`, `scheduler`, `cluster`, `partition`"),
        // Types and bounds
        ("launcher: mpiexec", 1, 11, "`launcher`: there is no launcher `mpiexec`", "the launchers are `srun`, `mpirun`, `direct`; or give a command with `{ranks}`"),
        ("launcher: mpi-run", 1, 11, "`launcher`: there is no launcher `mpi-run`", "did you mean `mpirun`?"),
        ("pack: 1\nlauncher: jsrun -n {rank}", 2, 11, "`launcher`: there is no placeholder `{rank}`", "the placeholders are `{ranks}`, `{threads}`, `{gpus}`, `{hosts}`"),
        ("launcher: \"ibrun -n 4\"", 1, 11, "`launcher`: the command `ibrun -n 4` does not contain `{ranks}`", "add the number of ranks of a run"),
        ("scheduler: lsf", 1, 12, "`scheduler` must be one of `slurm`, `pbs`, found the text `lsf`", "for example `scheduler: slurm`"),
        ("partition:", 1, 10, "`partition` must be a name, found nothing", "for example `partition: gpu`"),
        ("partition: gpu cpu", 1, 12, "`partition` cannot be `gpu cpu`: a name cannot contain ' '", "for example `partition: gpu`"),
        ("account: \"a\\nb\"", 1, 10, "`account` cannot be `a\\nb`: a name cannot contain '\\n'", "for example `account: lottery`"),
        ("account: ''", 1, 10, "`account` is empty", "remove it, or give a value, as in `account: lottery`"),
        ("account: lottery\u{200b}", 1, 10, "`account` cannot be `lottery<U+200B>`: a name cannot contain U+200B", "remove U+200B"),
        ("constraint: a100\u{200b}&nvlink", 1, 13, "`constraint` cannot contain U+200B", "remove U+200B"),
        ("constraint: [a100|h100]", 1, 13, "`constraint` must be a text, found a list", "put it in quotes"),
        ("constraint: |\n  a100\n  h100", 2, 3, "`constraint` must be on one line, found '\\n'", "write it on one line"),
        ("constraint: \"a\\e[31m\"", 1, 13, "`constraint` must be on one line, found '\\u{1b}'", "write it on one line"),
        ("time: 4h", 1, 7, "`time` must be minutes, or a time such as `4:00:00` or `1-12:00:00`, found the text `4h`", "for example `time: 4:00:00`"),
        ("time: 1:2:3:4", 1, 7, "`time` must be minutes, or a time such as `4:00:00` or `1-12:00:00`, found the text `1:2:3:4`", "for example"),
        ("time: 999999999", 1, 7, "`time` must be minutes, or a time such as `4:00:00` or `1-12:00:00`, found the text `999999999`", "for example"),
        ("time: -5", 1, 7, "`time` must be minutes, or a time such as `4:00:00` or `1-12:00:00`, found the text `-5`", "for example"),
        ("time: \"5\\n#SBATCH --wrap=x\"", 1, 7, "`time` must be on one line, found '\\n'", "write it on one line"),
        ("memory: 1.5G", 1, 9, "`memory` must be a whole number, optionally followed by `K`, `M`, `G` or `T`, found the text `1.5G`", "for example `memory: 32G`"),
        ("memory: 64 GB", 1, 9, "`memory` must be a whole number, optionally followed by `K`, `M`, `G` or `T`, found the text `64 GB`", "for example"),
        ("grace: 0", 1, 8, "`grace` must be a whole number from 1 to 65,535, found `0`", "for example `grace: 120`"),
        ("grace: 2:00", 1, 8, "`grace` must be a whole number from 1 to 65,535, found the text `2:00`", "for example `grace: 120`"),
        ("requeue: no", 1, 10, "`requeue` must be `true` or `false`, found the text `no`", "did you mean `false`?"),
        ("gpu_type: gpu:a100:4", 1, 11, "`gpu_type` cannot be `gpu:a100:4`", "give only the type, as in `gpu_type: a100`"),
        ("gpus_per_node: 0.5", 1, 16, "`gpus_per_node` must be a whole number from 1 to 1,024, found `0.5`", "for example `gpus_per_node: 4`"),
        ("pack: -1", 1, 7, "`pack` must be a whole number from 1 to 1,000,000, found `-1`", "for example `pack: 8`"),
        ("setup: {module: openmpi}", 1, 8, "`setup` must be shell commands, found a block of settings", "for example `setup: module load openmpi`"),
        ("setup: \"a\\0b\"", 1, 8, "`setup` contains a zero byte", "remove"),
        ("setup: [module purge, {a: b}]", 1, 23, "`setup` must be shell commands, found a block of settings", "for example `setup: module load openmpi`"),
        // Options of sbatch
        ("sbatch: 3", 1, 9, "an option in `sbatch` must begin with `-`, found `3`", "for example `sbatch: [--exclusive]`"),
        ("sbatch:\n  - exclusive", 2, 5, "an option in `sbatch` must begin with `-`, found `exclusive`", "for example `sbatch: [--exclusive]`"),
        ("sbatch: |\n  --exclusive\n  --nice", 2, 3, "an option in `sbatch` must be on one line, found '\\n'", "write a list: one option per line"),
        ("sbatch: ['#SBATCH --nice']", 1, 10, "`#SBATCH --nice` is a line of a script, not an option", "remove `#SBATCH`: `\"--nice\"`"),
        ("sbatch: [--nice, --partition=gpu]", 1, 18, "`--partition=gpu` has its own setting", "write `partition: …` instead, as in `partition: gpu`"),
        ("sbatch: [--nice, -A lottery]", 1, 18, "`-A` has its own setting", "write `account: …` instead"),
        ("sbatch: [-pgpu]", 1, 10, "`-pgpu` has its own setting", "write `partition: …` instead"),
        ("sbatch: [--array=1-9%2]", 1, 10, "`--array=1-9%2` is set by winsign, from the runs", "remove it"),
        ("sbatch: [\"--arr=3\"]", 1, 10, "`--arr=3` is set by winsign, from the runs", "remove it"),
        ("sbatch: [--nice --output=x]", 1, 10, "`--output=x` is set by winsign, from the runs", "remove it"),
        // Together
        ("pack: 2\nside_by_side: 4", 2, 15, "`side_by_side: 4` must not exceed `pack: 2`, the runs per task", "add `pack: 4`, or lower `side_by_side`"),
        ("time: 5\ngrace: 300", 2, 8, "`time: 5` must be longer than the 300 seconds of `grace`", "raise `time`, or lower `grace`"),
        ("time: 2", 1, 7, "`time: 2` must be longer than the 120 seconds of `grace`", "raise `time`"),
        ("mpi: pmix\nlauncher: direct", 1, 6, "`mpi` has no effect with `launcher: direct`: it is used by `srun`", "remove it, or set `launcher: srun`"),
    ];
    for (text, line, column, message, help) in cases {
        let error = parse(text).expect_err(text);
        let found = (error.message.as_str(), error.line, error.column);
        assert_eq!(found, (*message, Some(*line), Some(*column)), "{text}");
        assert!(error.to_string().contains(help), "{text}\n{error}");
    }
}

#[test]
fn memory_per_core_and_lists_of_nodes_are_not_taken_for_other_options() {
    let lines = "[--mem-per-cpu=2G, --nodelist=n1, '--gres=tmp:100G', -x n2, --exclude=n3, --time-min=30]";
    assert_eq!(understood(&format!("sbatch: {lines}")).sbatch.len(), 6);
}

#[test]
fn errors_show_the_place() {
    let expected = "\
error: `time` must be minutes, or a time such as `4:00:00` or `1-12:00:00`, found the text `4h`
 --> here.yaml:2:7
  |
1 | partition: gpu
2 | time: 4h
  |       ^^
3 | pack: 8
  |
  = help: for example `time: 4:00:00`";
    assert_eq!(parse("partition: gpu\ntime: 4h\npack: 8\n").unwrap_err().render(false), expected);
}

#[test]
fn command_line_overrides_file_and_is_checked() {
    let profile = understood("partition: gpu\npack: 8\nside_by_side: 4\nmpi: pmix\n");
    let with = |options: &[(&str, &str)]| profile.clone().with_options(options.iter().copied());
    let other = with(&[("partition", "cpu"), ("time", "30"), ("pack", "2"), ("launcher", "direct")]).unwrap();
    assert_eq!((other.partition.as_deref(), other.time.as_deref(), other.pack), (Some("cpu"), Some("30"), 2));
    assert_eq!((other.side_by_side, other.launcher.as_str()), (2, "direct"));
    assert_eq!((line_of(&other, "partition"), line_of(&other, "side_by_side")), (None, Some(3)));

    let nice =
        understood("sbatch: [--nice]").with_options([("sbatch", "--exclusive"), ("sbatch", "--hint=x")]).unwrap();
    assert_eq!(nice.sbatch, ["--nice", "--exclusive", "--hint=x"]);

    let error = |options: &[(&str, &str)]| with(options).unwrap_err();
    let wrong = error(&[("max_running", "many")]);
    assert_eq!(wrong.message, "`--max-running` must be a whole number from 1 to 1,000,000, found the text `many`");
    assert_eq!((wrong.help.as_deref(), wrong.line), (Some("for example `--max-running 32`"), None));
    assert_eq!(error(&[("time", "4h")]).help.unwrap(), "for example `--time 4:00:00`");
    assert_eq!(error(&[("sbatch", "--array=1")]).message, "`--array=1` is set by winsign, from the runs");
    let too_many = error(&[("pack", "2"), ("side_by_side", "3")]);
    assert_eq!(too_many.message, "`side_by_side: 3` must not exceed `pack: 2`, the runs per task");
}

/// Jobs submit later arrays with the profile of the submission, even if its file has changed.
#[test]
fn profiles_can_be_kept() {
    let profile = understood("partition: gpu\nsbatch: [--nice]\n").with_options([("qos", "high")]).unwrap();
    let kept: Profile = serde_json::from_str(&serde_json::to_string(&profile).unwrap()).unwrap();
    assert_eq!(kept, profile);
    let old = r#"{"launcher": "srun", "sbatch": ["--nice"]}"#;
    assert_eq!(serde_json::from_str::<Profile>(old).unwrap().scheduler, "slurm", "the only one of earlier versions");
    let later = serde_json::from_str::<Profile>(r#"{"scheduler": "moon"}"#).unwrap_err();
    assert!(later.to_string().starts_with("this version of winsign has no scheduler `moon`"), "{later}");
}

#[test]
fn settings_to_check_are_those_given() {
    let profile = understood("partition: gpu\nsetup: module load x\n")
        .with_options([("time", "30"), ("sbatch", "--nice")])
        .unwrap();
    let expected = "check the settings in here.yaml: `partition: gpu`, `time: 30`, `sbatch: [\"--nice\"]`";
    assert_eq!(profile.settings_to_check(), expected);
    assert!(Profile::default().settings_to_check().starts_with("set what the site requires"));
}

/// Any file is a profile or an error that points into the file.
#[test]
fn nothing_panics() {
    let example = include_str!("../../../../launch/profiles/cpu-mpirun.yaml");
    let text: Vec<char> =
        example.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n").chars().collect();
    for (start, piece) in
        (0..text.len()).zip(["[", "}", ":", "-", "é", "'", "\"", "\n  ", "- ", "\t", "--é", "0"].into_iter().cycle())
    {
        let mutated: String =
            text[..start].iter().copied().chain(piece.chars()).chain(text[start..].iter().copied()).collect();
        match parse(&mutated) {
            Ok(profile) => assert!(!profile.settings_to_check().is_empty()),
            Err(error) => {
                error.render(true);
                assert!(error.line.is_some_and(|line| line <= mutated.lines().count() + 1), "{mutated}\n{error:?}");
            }
        }
    }
}

#[test]
fn profiles_are_found_by_name() {
    let place = tempfile::tempdir().unwrap();
    let folders = ["project", "user", "nowhere"].map(|name| place.path().join(name));
    for (folder, name, partition) in [(0, "gpu", "a"), (1, "gpu", "b"), (1, "mine", "c")] {
        fs::create_dir_all(&folders[folder]).unwrap();
        fs::write(folders[folder].join(format!("{name}.yaml")), format!("partition: {partition}")).unwrap();
    }
    fs::write(folders[0].join("README.md"), "").unwrap();
    let partition = |name: &str| Profile::find_in(&folders, name).unwrap().partition.unwrap();
    assert_eq!((partition("gpu"), partition("mine")), ("a".to_string(), "c".to_string()));
    let path = folders[1].join("gpu.yaml");
    assert_eq!(partition(path.to_str().unwrap()), "b");
    assert_eq!(Profile::find_in(&folders, path.to_str().unwrap()).unwrap().path, Some(path));

    let error = |name: &str| Profile::find_in(&folders, name).unwrap_err();
    let wrong = error("mien");
    assert_eq!(wrong.message, "cannot find the profile `mien`");
    let line = wrong.to_string();
    assert!(line.starts_with("--profile: cannot find the profile `mien`; help: did you mean `mine`? "), "{line}");
    assert!(line.ends_with(" are `gpu`, `mine`"), "{line}");
    // What is a path is no name.
    assert_eq!(error("./mine").message, "the file does not exist");
    let beside = error(folders[1].join("mie.yaml").to_str().unwrap());
    assert_eq!(beside.help.unwrap(), format!("did you mean {}?", folders[1].join("mine.yaml").display()));
    let none = Profile::find_in(&folders[2..], "gpu").unwrap_err();
    assert!(none.help.as_ref().unwrap().starts_with("create one in "), "{none}");
}

#[test]
fn user_profiles_are_in_the_xdg_directory() {
    let folder =
        |config: Option<&str>, home: Option<&str>| folder_of_user(config.map(Into::into), home.map(Into::into));
    let home = Some("/home/me");
    assert_eq!(folder(Some("/config"), home), Some("/config/winsign/profiles".into()));
    assert_eq!(folder(Some("config"), home), Some("/home/me/.config/winsign/profiles".into()));
    assert_eq!(folder(None, home), Some("/home/me/.config/winsign/profiles".into()));
    assert_eq!(folder(None, None), None);
}

#[test]
fn examples_are_profiles() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(OF_PROJECT);
    let names = profiles_in(&folder);
    assert!(names.len() >= 3, "{names:?}");
    for name in &names {
        let profile = Profile::find_in(std::slice::from_ref(&folder), name)
            .unwrap_or_else(|error| panic!("{}", error.render(false)));
        assert!(line_of(&profile, "partition").is_some(), "{name}");
        assert!(DOCUMENTATION.contains(&format!("`{name}`")), "docs/reference/profiles.md does not mention {name}");
    }
    for block in DOCUMENTATION.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap()) {
        understood(block);
    }
}

// The declarations.

#[test]
fn keys_are_the_fields_and_have_their_defaults() {
    let defaults = Profile::default().json();
    let mut fields: Vec<_> = defaults.as_object().unwrap().keys().map(String::as_str).collect();
    fields.retain(|field| !["path", "source"].contains(field));
    assert_eq!(fields, KEYS.iter().map(|key| key.name).collect::<Vec<_>>());
    for key in KEYS {
        // A value for each kind can be put in the field.
        let pack = if key.name == "pack" { "" } else { "pack: 100" };
        let profile = understood(&format!("{}: {}\n{pack}", key.name, key.example));
        assert_eq!(line_of(&profile, key.name), Some(1), "{}", key.name);
        let default = Profile::default().shown(key);
        let said_in_words = ["null", "", "[]"].contains(&default.as_str());
        assert!(said_in_words || default == key.default_text(), "{}: {default}", key.name);
        if key.name == "launcher" {
            assert!(key.doc.contains(&launcher::describe()), "{}", launcher::describe());
        }
        if let Kind::Word(words) = key.kind {
            assert!(words.iter().all(|word| parse(&format!("{}: {word}", key.name)).is_ok()), "{}", key.name);
        }
    }
}
