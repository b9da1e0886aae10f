//! Just enough of Rust's grammar: what is code and what is comment or literal, and where a function
//! ends.

use super::Finding;

pub(super) const FUNCTION_LINES_MAX: usize = 70;

/// The text with comments, strings and characters blanked. Lines and columns stay where they are.
pub(super) fn without_literals(text: &str) -> String {
    let mut scanner = Scanner {
        chars: text.chars().collect(),
        at: 0,
        out: String::with_capacity(text.len()),
    };
    while let Some(char) = scanner.peek(0) {
        scanner.step(char);
    }
    scanner.out
}

/// Functions that are too long, by the line they start on. `code` comes from [`without_literals`].
pub(super) fn long_functions(path: &str, code: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (at, name) in functions(code) {
        let Some(end) = body_end(&code[at..]) else {
            continue;
        };
        let lines = 1 + code[at..at + end].matches('\n').count();
        if lines > FUNCTION_LINES_MAX {
            let line = 1 + code[..at].matches('\n').count();
            let what = format!("`{name}` has {lines} lines, more than {FUNCTION_LINES_MAX}");
            findings.push(Finding::error(format!("{path}:{line}"), what));
        }
    }
    findings
}

/// The words of the code with their places: identifiers and keywords.
pub(super) fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    code.split(move |c| !is_word(c))
        .filter(|word| !word.is_empty())
        .map(|word| (word.as_ptr() as usize - code.as_ptr() as usize, word))
}

/// Where each `fn` stands, and the name after it.
fn functions(code: &str) -> Vec<(usize, &str)> {
    let words: Vec<_> = words(code).collect();
    let is_fn = |pair: &&[(usize, &str)]| {
        let gap = &code[pair[0].0 + pair[0].1.len()..pair[1].0];
        pair[0].1 == "fn" && gap.trim().is_empty()
    };
    words
        .windows(2)
        .filter(is_fn)
        .map(|pair| (pair[0].0, pair[1].1))
        .collect()
}

/// Where the body ends that the first brace opens, or `None` for a function without one.
fn body_end(code: &str) -> Option<usize> {
    let mut depth = 0usize;
    // `[u8; 4]` in a signature holds a semicolon that ends nothing.
    let mut brackets = 0usize;
    for (at, char) in code.char_indices() {
        match char {
            '[' => brackets += 1,
            ']' => brackets = brackets.saturating_sub(1),
            ';' if depth == 0 && brackets == 0 => return None,
            '{' => depth += 1,
            '}' if depth <= 1 => return Some(at),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

struct Scanner {
    chars: Vec<char>,
    at: usize,
    out: String,
}

impl Scanner {
    fn step(&mut self, char: char) {
        match (char, self.peek(1)) {
            ('/', Some('/')) => self.blank_while(|scanner| scanner.peek(0) != Some('\n')),
            ('/', Some('*')) => self.block_comment(),
            ('"', _) => self.string(),
            ('r', Some('"' | '#')) if self.starts_raw_string() => self.raw_string(),
            ('\'', Some('\\')) => {
                self.blank(3);
                self.blank_while(|scanner| scanner.peek(0) != Some('\''));
                self.blank(1);
            }
            ('\'', Some(_)) if self.peek(2) == Some('\'') => self.blank(3),
            _ => {
                self.out.push(char);
                self.at += 1;
            }
        }
    }

    fn block_comment(&mut self) {
        let mut depth = 0;
        loop {
            match (self.peek(0), self.peek(1)) {
                (None, _) => return,
                (Some('/'), Some('*')) => {
                    depth += 1;
                    self.blank(2);
                }
                (Some('*'), Some('/')) => {
                    depth -= 1;
                    self.blank(2);
                    if depth == 0 {
                        return;
                    }
                }
                (Some(_), _) => self.blank(1),
            }
        }
    }

    fn string(&mut self) {
        self.blank(1);
        loop {
            match self.peek(0) {
                None => return,
                Some('\\') => self.blank(2),
                Some('"') => return self.blank(1),
                Some(_) => self.blank(1),
            }
        }
    }

    /// `r"`, `r#"`, `br#"`, but neither `r#type` nor `bar"`.
    fn starts_raw_string(&self) -> bool {
        let hashes = self.hashes();
        let before = |back: usize| self.at.checked_sub(back).and_then(|at| self.chars.get(at));
        let is_word = |char: Option<&char>| char.is_some_and(|c| c.is_alphanumeric() || *c == '_');
        let prefix_ends = if before(1) == Some(&'b') { 2 } else { 1 };
        self.peek(1 + hashes) == Some('"') && !is_word(before(prefix_ends))
    }

    fn raw_string(&mut self) {
        let hashes = self.hashes();
        self.blank(2 + hashes);
        while self.peek(0).is_some() {
            let closes = (0..hashes).all(|at| self.peek(1 + at) == Some('#'));
            if self.peek(0) == Some('"') && closes {
                return self.blank(1 + hashes);
            }
            self.blank(1);
        }
    }

    /// How many `#` follow the `r` that is next.
    fn hashes(&self) -> usize {
        let rest = self.chars.iter().skip(self.at + 1);
        rest.take_while(|&&char| char == '#').count()
    }

    fn blank_while(&mut self, condition: impl Fn(&Self) -> bool) {
        while self.peek(0).is_some() && condition(self) {
            self.blank(1);
        }
    }

    fn blank(&mut self, count: usize) {
        for _ in 0..count {
            if let Some(char) = self.peek(0) {
                self.out.push(if char == '\n' { '\n' } else { ' ' });
                self.at += 1;
            }
        }
    }

    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn squeezed(text: &str) -> String {
        let code = without_literals(text);
        assert_eq!(code.matches('\n').count(), text.matches('\n').count());
        code.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn comments_and_literals_are_blanked() {
        for (text, code) in [
            ("a // b\nc", "a c"),
            ("a /* b /* c */ d */ e", "a e"),
            (r#"a "b \" // c" d"#, "a d"),
            ("a r#\"b \" c\"# d", "a d"),
            ("a br##\"b \"# c\"## d", "a b d"),
            ("a r\"b\\\" c", "a c"),
            ("a '{' b '\\'' c '\\u{7d}' d", "a b c d"),
            ("fn a<'b>(c: &'b str) {}", "fn a<'b>(c: &'b str) {}"),
            ("r#type for\"x\" e", "r#type for e"),
            ("a \"open", "a"),
            ("a /* open", "a"),
        ] {
            assert_eq!(squeezed(text), code, "{text}");
        }
    }

    #[test]
    fn only_functions_that_are_too_long_are_found() {
        let function = |lines: usize| {
            let body = "    let x = \"}\";\n".repeat(lines - 2);
            format!(
                "trait T {{ fn none(x: [u8; 4]); }}\nfn f(x: [u8; 4]) {{\n{body}}}\nfn g() {{}}\n"
            )
        };
        let find = |text: &str| long_functions("a.rs", &without_literals(text));
        assert!(find(&function(FUNCTION_LINES_MAX)).is_empty());
        let findings = find(&function(FUNCTION_LINES_MAX + 1));
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].place, "a.rs:2");
        assert!(findings[0].what.starts_with("`f` has 71 lines"));
    }

    #[test]
    fn a_function_pointer_type_is_no_function() {
        let text = format!("type F = fn(u8) -> u8;\n{}struct S {{}}", "\n".repeat(100));
        assert!(long_functions("a.rs", &text).is_empty());
    }
}
