//! `docs/reference/exit-codes.md`, from the list in `winsign_core::exit`.

use winsign_core::exit::CODES;

const INTRODUCTION: &str = "\
# Exit codes

`winsign` and `winsign-worker` exit with these codes. Codes from 65 up are those of BSD's `sysexits.h`. `mpirun` and `srun`
have [rules of their own](../concepts/ranks.md#stopping-and-resuming) for the codes of several ranks.

Errors say what failed, where in a file, and what to do. With `--json`, standard output has the same as
`{\"error\": {\"message\", \"file\", \"line\", \"column\", \"help\", \"exit_code\"}}`, with `null` for what does not apply.

| code | `winsign` | `winsign-worker` |
|---:|---|---|
";

#[test]
fn page_of_exit_codes_is_current() {
    let row = |code: &winsign_core::exit::ExitCode| {
        format!("| {} | {} | {} |\n", code.number, code.winsign.replace('\n', " "), code.worker)
    };
    let rows: String = CODES.iter().map(row).collect();
    super::assert_page("docs/reference/exit-codes.md", &format!("{INTRODUCTION}{rows}"));
}
