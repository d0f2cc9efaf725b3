//! Exit codes of both programs. The numbers from 65 up are those of BSD's `sysexits.h`, except 71
//! and 72.

/// An exit code, with its meaning for each program; the meaning is empty if the program does not use the code.
pub struct ExitCode {
    pub number: u8,
    pub winsign: &'static str,
    pub worker: &'static str,
}

/// Declares the exit codes and their list.
macro_rules! exit_codes {
    ($($name:ident = $number:literal, $winsign:literal, $worker:literal;)*) => {
        $(
            #[doc = concat!("`winsign`: ", $winsign, "\n\n`winsign-worker`: ", $worker)]
            pub const $name: u8 = $number;
        )*
        /// All exit codes.
        pub const CODES: &[ExitCode] =
            &[$(ExitCode { number: $number, winsign: $winsign, worker: $worker }),*];
    };
}

exit_codes! {
    SUCCESS = 0,
        "success",
        "the result is committed (also if it already was)";
    FAILURE = 1,
        "unexpected error",
        "the run failed; the last line of the log gives the reason";
    USAGE = 2,
        "invalid command line or sweep file; nothing was written",
        "it is not a run directory, or has another format; or its data, ranks or devices cannot be used";
    RUNS_FAILED = 3,
        "some runs failed or are blocked by failed runs; all others are done\n\
         (merge: conflicts or damaged files; digest --check: differences)",
        "";
    DAMAGED_INPUT = 65,
        "a file of the store or of a data set is damaged",
        "files of an input are damaged and were set aside; compute that run again first";
    HELD = 69,
        "",
        "another attempt at this run is alive, or has taken over";
    RANK_LOST = 71,
        "",
        "a rank exited, hangs or is unreachable; start again to resume from the last checkpoint";
    OUT_OF_GPU_MEMORY = 72,
        "",
        "a GPU has too little memory; start again to resume with activations in the memory of the host";
    IO = 74,
        "the store or a data set cannot be read or written",
        "the store cannot be read or written";
    INTERRUPTED = 75,
        "interrupted; run the same command again to continue",
        "interrupted after saving a checkpoint; start again to resume";
}

/// Returns the list of exit codes for a help text, with the meanings that `select` picks.
pub fn help(select: impl Fn(&ExitCode) -> &'static str) -> String {
    let used = CODES.iter().map(|code| (code.number, select(code))).filter(|(_, meaning)| !meaning.is_empty());
    let lines = used.map(|(number, meaning)| format!("\n  {number:2}  {}", meaning.replace('\n', "\n      ")));
    format!("Exit codes:{}", lines.collect::<String>())
}
