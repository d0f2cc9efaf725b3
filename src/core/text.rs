//! Formatting of text for messages, tables and scripts.

/// Returns a count with its noun: `1 run`, `2 runs`, `3 matrices`.
pub fn plural(count: usize, noun: &str) -> String {
    match (count, noun.strip_suffix("ix")) {
        (1, _) => format!("1 {noun}"),
        (_, Some(stem)) => format!("{count} {stem}ices"),
        (_, None) => format!("{count} {noun}s"),
    }
}

/// Returns the text with control characters escaped, which could otherwise move the cursor of a terminal, and with others
/// that cannot be seen as in `<U+00A0>`.
pub fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            printable.extend(character.escape_default());
        } else if is_invisible(character) {
            printable += &format!("<{}>", code_point(character));
        } else {
            printable.push(character);
        }
    }
    printable
}

/// Returns a text of several lines as one.
pub fn one_line(text: &str) -> String {
    text.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

/// Returns whether a character cannot be seen, or is a space other than the plain one.
pub fn is_invisible(character: char) -> bool {
    let has_no_width = matches!(character, '\u{ad}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    character.is_control() || has_no_width || (character.is_whitespace() && character != ' ')
}

/// Returns the characters that are easily taken for others: those that cannot be seen, typographic and wide punctuation, and
/// Greek or Cyrillic letters in words with Latin ones.
pub fn deceptive(text: &str) -> Vec<char> {
    let is_typographic = |c: &char| matches!(c, '\u{2010}'..='\u{201f}' | '\u{2212}' | '\u{ff00}'..='\u{ff65}');
    let words = text.split(|c: char| !c.is_alphanumeric());
    let mixed = words.filter(|word| word.contains(|c: char| c.is_ascii_alphabetic())).flat_map(str::chars);
    let letters = mixed.filter(|c| matches!(c, '\u{370}'..='\u{52f}'));
    let others = text.chars().filter(|c| !c.is_control()).filter(|c| is_invisible(*c) || is_typographic(c));
    others.chain(letters).collect()
}

/// Returns a character as in `U+00A0`.
pub fn code_point(character: char) -> String {
    format!("U+{:04X}", u32::from(character))
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
    fn characters_that_cannot_be_seen_are_shown() {
        assert_eq!(printable("a\u{a0}b\u{200b} c"), "a<U+00A0>b<U+200B> c");
        assert_eq!(deceptive("m\u{435}thod \u{a0}“x”"), ['\u{a0}', '“', '”', '\u{435}']);
        assert_eq!(deceptive("Größe, опыт, α = 1"), []);
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
