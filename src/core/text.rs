//! Formatting of text for messages, tables and scripts.

/// Returns a count with its noun: `1 run`, `2 runs`, `3 matrices`.
pub fn plural(count: usize, noun: &str) -> String {
    match (count, noun.strip_suffix("ix")) {
        (1, _) => format!("1 {noun}"),
        (_, Some(stem)) => format!("{count} {stem}ices"),
        (_, None) => format!("{count} {noun}s"),
    }
}

/// Returns the text with control characters escaped, which could otherwise move the cursor of a terminal.
pub fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            printable.extend(character.escape_default());
        } else {
            printable.push(character);
        }
    }
    printable
}

/// Returns the text as one word of a POSIX shell.
pub fn shell_word(text: &str) -> String {
    // Only a zero byte cannot be quoted, and no path or argument holds one.
    shlex::try_quote(text).map_or_else(|_| printable(text), |word| word.into_owned())
}

/// Returns a text whose lines end with a line feed, wherever they ended with a carriage return, or with both.
pub fn with_newlines(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plural_agrees_with_its_count() {
        assert_eq!([0, 1, 2].map(|count| plural(count, "run")), ["0 runs", "1 run", "2 runs"]);
        assert_eq!([1, 2].map(|count| plural(count, "matrix")), ["1 matrix", "2 matrices"]);
    }

    #[test]
    fn printable_escapes_control_characters() {
        assert_eq!(printable("a\u{1b}[2Jb\n"), "a\\u{1b}[2Jb\\n");
    }

    #[test]
    fn shell_word_survives_a_shell() {
        for text in ["plain/path-1.0", "it's a \"name\" with $HOME `x` \\ and *", "", "two\nlines"] {
            let script = format!("printf %s {}", shell_word(text));
            let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), text);
        }
        assert_eq!(shell_word("results/my-study@1:2"), "results/my-study@1:2");
    }
}
