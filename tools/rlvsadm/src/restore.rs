// SPDX-License-Identifier: GPL-2.0

//! Replays command lines from a file.

use std::{
    io::{self, BufRead, IsTerminal, Write},
    time::{Duration, Instant},
};

use crate::{
    cli::{Action, Parser, Request},
    error::Failure,
    kernel::Kernel,
    run,
};

/// A line that could be read.
#[derive(Debug)]
struct Line {
    number: usize,
    text: String,
    action: Action,
}

/// Executes each line of the input.
///
/// All lines are read before the first is executed: a line that makes no sense changes nothing. A
/// line that the kernel refuses does not keep the others from being executed.
pub fn run(
    kernel: &mut Kernel,
    parser: &mut Parser,
    input: impl BufRead,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let mut progress = Progress::new();
    let lines = read(parser, input, &mut progress)?;
    let mut failures = Vec::new();
    let mut status = 0;
    let count = lines.len();
    for (done, line) in lines.into_iter().enumerate() {
        progress.tell(|| format!("{done} of {count} lines restored"));
        if let Err(failure) = run::execute(kernel, line.action, out) {
            failures.push(format!(
                "line {}: {}: {}",
                line.number, line.text, failure.text
            ));
            status = failure.status;
        }
    }
    if failures.is_empty() {
        return Ok(());
    }
    failures.push(format!("{} of {count} commands failed", failures.len()));
    Err(Failure {
        status,
        text: failures.join("\n"),
    })
}

/// Reads all lines, and gives every one that makes no sense as one failure.
fn read(
    parser: &mut Parser,
    input: impl BufRead,
    progress: &mut Progress,
) -> Result<Vec<Line>, Failure> {
    let mut lines = Vec::new();
    let mut mistakes = Vec::new();
    for (index, line) in input.lines().enumerate() {
        let number = index + 1;
        progress.tell(|| format!("{index} lines read"));
        let line = line.map_err(|error| Failure::usage(format!("line {number}: {error}")))?;
        let text = line.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        match read_line(parser, text) {
            Ok(action) => lines.push(Line {
                number,
                text: text.to_owned(),
                action,
            }),
            Err(failure) => mistakes.push(format!("line {number}: {text}: {}", failure.text)),
        }
    }
    if mistakes.is_empty() {
        return Ok(lines);
    }
    mistakes.push("nothing was changed".to_owned());
    Err(Failure::usage(mistakes.join("\n")))
}

fn read_line(parser: &mut Parser, text: &str) -> Result<Action, Failure> {
    let mut words = text.split_ascii_whitespace().peekable();
    // `ipvsadm', `rlvsadm', and where they lie, may stand in front.
    words.next_if(|word| matches!(word.rsplit('/').next(), Some("ipvsadm" | "rlvsadm")));
    match parser.parse(words)? {
        Request::Tables(action) => Ok(action),
        _ => Err(Failure::usage("not a command that can be restored")),
    }
}

/// Tells on a terminal how far things are, where that takes more than a moment.
struct Progress {
    /// When to tell next; never, if nobody looks.
    next: Option<Instant>,
}

impl Progress {
    const STEP: Duration = Duration::from_millis(200);

    fn new() -> Self {
        let looked_at = io::stderr().is_terminal();
        Progress {
            next: looked_at.then(|| Instant::now() + Self::STEP),
        }
    }

    fn tell(&mut self, what: impl FnOnce() -> String) {
        let now = match self.next {
            Some(next) if Instant::now() >= next => Instant::now(),
            _ => return,
        };
        self.next = Some(now + Self::STEP);
        eprint!("\r\x1b[K{}", what());
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.next.is_some() {
            eprint!("\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(input: &str) -> Result<Vec<(usize, String)>, Failure> {
        let mut silent = Progress { next: None };
        let lines = read(&mut Parser::new(), input.as_bytes(), &mut silent)?;
        Ok(lines
            .into_iter()
            .map(|line| (line.number, line.text))
            .collect())
    }

    #[test]
    fn comments_blanks_and_program_names_are_passed_over() {
        let input = "# saved\n\n-A -t 10.0.0.1:80 -s rr\n  ipvsadm -C\n/sbin/rlvsadm -Z\n";
        let lines = texts(input).unwrap();
        let expected = [
            (3, "-A -t 10.0.0.1:80 -s rr"),
            (4, "ipvsadm -C"),
            (5, "/sbin/rlvsadm -Z"),
        ];
        assert_eq!(
            lines,
            expected.map(|(number, text)| (number, text.to_owned()))
        );
    }

    #[test]
    fn every_mistake_is_told_with_its_line() {
        let failure = texts("-C\n-A -t 10.0.0.1:80\nfoo -C\n-A -t 80\n").unwrap_err();
        assert_eq!(failure.status, 2);
        let told: Vec<&str> = failure.text.lines().collect();
        assert!(told[0].starts_with("line 3: foo -C: "));
        assert!(told[1].starts_with("line 4: -A -t 80: "));
        assert_eq!(told[2..], ["nothing was changed"]);
    }

    #[test]
    fn restoring_does_not_nest() {
        assert!(read_line(&mut Parser::new(), "-R").is_err());
        assert_eq!(
            read_line(&mut Parser::new(), "rlvsadm -C").unwrap(),
            Action::Clear
        );
    }
}
