//! How figures and words are written: three digits that count, a unit that fits, and nothing a browser could
//! take for markup.

/// Between a figure and its unit, so that they stay in one line.
const GAP: char = '\u{a0}';
/// Between groups of three digits.
const GROUP: &str = "\u{202f}";

/// Units of time: from how many seconds on each is used, and how many seconds it has.
const TIMES: [(f64, f64, &str); 6] = [
    (259_200.0, 86_400.0, "d"),
    (10_800.0, 3_600.0, "h"),
    (600.0, 60.0, "min"),
    (1.0, 1.0, "s"),
    (1e-3, 1e-3, "ms"),
    (f64::MIN_POSITIVE, 1e-6, "µs"),
];

/// Decimal prefixes of amounts.
const PREFIXES: [(f64, &str); 3] = [(1e9, "G"), (1e6, "M"), (1e3, "k")];

/// How metrics' names end, the longer ends first, and the units they stand for.
const ENDS: [(&str, &str); 6] =
    [("per_s", "/s"), ("bytes", "B"), ("share", "share"), ("mib", "MiB"), ("ms", "ms"), ("s", "s")];

/// A unit with its prefix, and how much one of it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scale {
    pub(super) size: f64,
    prefix: &'static str,
    unit: &'static str,
}

impl Scale {
    /// The scale in which figures up to `most` read well. `unit` is `s`, `share`, `B/s` and so on; what is not
    /// known here keeps its own.
    pub(super) fn fitting(most: f64, unit: &'static str) -> Self {
        match unit {
            "s" => TIMES.into_iter().find(|(from, _, _)| most >= *from).map_or(
                Self { size: 1.0, prefix: "", unit },
                |(_, size, unit)| Self { size, prefix: "", unit },
            ),
            "share" => Self { size: 0.01, prefix: "", unit: "%" },
            "B" | "B/s" | "bit/s" => PREFIXES
                .into_iter()
                .find(|(size, _)| most >= *size)
                .map_or(Self { size: 1.0, prefix: "", unit }, |(size, prefix)| Self { size, prefix, unit }),
            _ => Self { size: 1.0, prefix: "", unit },
        }
    }

    /// The unit alone: `kB/s`.
    pub(super) fn name(self) -> String {
        format!("{}{}", self.prefix, self.unit)
    }

    /// A figure without its unit, but with a percent sign: for axes whose title says the unit.
    pub(super) fn short(self, value: f64) -> String {
        let sign = if self.unit == "%" { "%" } else { "" };
        format!("{}{sign}", digits(value / self.size))
    }

    /// A figure with its unit.
    pub(super) fn full(self, value: f64) -> String {
        let figure = digits(value / self.size);
        match self.unit {
            "" => figure,
            unit if unit == "%" || unit.starts_with('/') => format!("{figure}{unit}"),
            unit => format!("{figure}{GAP}{}{unit}", self.prefix),
        }
    }
}

/// A figure in the unit that fits it best: `1.2 s`, `340 ms`, `12.3 kB/s`, `4.1%`.
pub(super) fn with_unit(value: f64, unit: &'static str) -> String {
    if value.is_finite() { Scale::fitting(value.abs(), unit).full(value) } else { "no figure".to_owned() }
}

/// A time from the begin, or a length.
pub(super) fn seconds(value: f64) -> String {
    with_unit(value, "s")
}

/// `1 seed`, `32 seeds`.
pub(super) fn counted(count: usize, what: &str) -> String {
    let ending = if count == 1 { "" } else { "s" };
    format!("{count}{GAP}{what}{ending}")
}

/// The unit that a metric's name ends with; nothing for counts. Of a rate the name says before what it is of.
pub(super) fn unit_of(metric: &str) -> &'static str {
    if metric.ends_with("per_s") && metric.split('_').any(|word| word == "bytes") {
        return "B/s";
    }
    let fits =
        |end: &str| metric.strip_suffix(end).is_some_and(|rest| rest.is_empty() || rest.ends_with('_'));
    ENDS.into_iter().find(|(end, _)| fits(end)).map_or("", |(_, unit)| unit)
}

/// Text that is safe between tags and in attributes. What no page may hold becomes a replacement character.
pub(super) fn escape(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut safe, c| {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            '\n' | '\t' => safe.push(c),
            _ if c.is_control() => safe.push('\u{fffd}'),
            _ => safe.push(c),
        }
        safe
    })
}

/// The text itself, or as much of its begin as `most` characters hold.
pub(super) fn shorten(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let begin: String = text.chars().take(most.saturating_sub(1)).collect();
    format!("{}…", begin.trim_end())
}

/// Three digits that count, more only for whole numbers; no zeros at the end of a fraction.
fn digits(value: f64) -> String {
    let size = value.abs();
    let places = if size == 0.0 || size >= 99.95 {
        0
    } else if size >= 9.995 {
        1
    } else if size >= 0.9995 {
        2
    } else if size >= 0.099_95 {
        3
    } else if size >= 0.009_995 {
        4
    } else {
        5
    };
    let plain = format!("{value:.places$}");
    let trimmed = if places > 0 { plain.trim_end_matches('0').trim_end_matches('.') } else { plain.as_str() };
    match trimmed {
        "-0" => "0".to_owned(),
        whole if size >= 9_999.5 => grouped(whole),
        other => other.to_owned(),
    }
}

/// A whole number in groups of three digits.
fn grouped(whole: &str) -> String {
    let (sign, figures) = whole.strip_prefix('-').map_or(("", whole), |rest| ("-", rest));
    let first = figures.len() % 3;
    let (head, tail) = figures.split_at(first);
    let groups: Vec<&str> = (0..tail.len() / 3).map(|group| &tail[3 * group..3 * group + 3]).collect();
    let gap = if head.is_empty() { "" } else { GROUP };
    format!("{sign}{head}{gap}{}", groups.join(GROUP))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: f64, unit: &'static str, expect: &str) {
        assert_eq!(with_unit(value, unit).replace([GAP, '\u{202f}'], " "), expect, "{value} {unit}");
    }

    #[test]
    fn figures_are_written_in_the_unit_that_fits() {
        check(1.2, "s", "1.2 s");
        check(0.34, "s", "340 ms");
        check(0.000_045, "s", "45 µs");
        check(90.0, "s", "90 s");
        check(900.0, "s", "15 min");
        check(86_400.0, "s", "24 h");
        check(0.0, "s", "0 s");
        check(12_340.0, "B/s", "12.3 kB/s");
        check(999.0, "B/s", "999 B/s");
        check(0.041, "share", "4.1%");
        check(3.0, "", "3");
        check(1_234_567.0, "", "1 234 567");
        check(-12_345.0, "", "-12 345");
        check(100_000.0, "", "100 000");
        check(7.5, "/s", "7.5/s");
        check(17.0, "MiB", "17 MiB");
    }

    #[test]
    fn no_figure_is_written_in_words() {
        check(f64::NAN, "s", "no figure");
        check(f64::INFINITY, "", "no figure");
    }

    #[test]
    fn three_digits_count_and_no_zeros_are_left_at_the_end() {
        check(1.0 / 3.0, "", "0.333");
        check(0.1 + 0.2, "", "0.3");
        check(99.99, "", "100");
        check(9.999, "", "10");
        check(-0.000_000_1, "", "0");
    }

    #[test]
    fn a_metric_says_its_unit_at_the_end_of_its_name() {
        let check = |name: &str, expect: &str| assert_eq!(unit_of(name), expect, "{name}");
        check("detection_p99_s", "s");
        check("sent_bytes_per_s", "B/s");
        check("bytes_per_node_per_s", "B/s");
        check("messages_per_s", "/s");
        check("wrong_share", "share");
        check("false_positives", "");
        check("changes", "");
    }

    #[test]
    fn markup_and_control_characters_are_escaped() {
        assert_eq!(
            escape("<b a=\"1\" b='2'>&\u{0}\n"),
            "&lt;b a=&quot;1&quot; b=&#39;2&#39;&gt;&amp;\u{fffd}\n"
        );
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        assert_eq!(shorten("köln", 4), "köln");
        assert_eq!(shorten("köln am rhein", 6), "köln…");
    }
}
