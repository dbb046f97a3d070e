//! What values mean: times, shares, numbers, names. Each reader says what is wrong with a value and what would be right.

use core::fmt::Display;
use core::ops::RangeInclusive;
use core::str::FromStr;
use core::time::Duration;

use ringmesh_types::duration;
use ringmesh_types::name::NameError;
use toml::de::DeValue;

use super::who;

/// A word this many edits away from a known one is taken for a slip.
const SLIP_EDITS_MAX: usize = 2;
/// Of a word that has fewer letters than this, less is needed to get to quite another one.
const SLIP_LETTERS_MIN: usize = 5;
const SECONDS_PER_DAY: u64 = 86_400;
/// A hundred years: no time is longer, so that sums of a few stay far from the end of [`Duration`] and of 64 bits of
/// nanoseconds.
const DAYS_MAX: u64 = 36_500;
/// What happens again and again takes at least this long.
const CYCLE_MIN: Duration = Duration::from_millis(1);
/// Changes and registrations a second at most; more would only make a run slow.
const PER_SECOND_MAX: f64 = 10_000.0;
/// What a bandwidth can be written in, and how many bits a second that is.
const BANDWIDTHS: [(&str, u64); 3] = [("kbit/s", 1_000), ("Mbit/s", 1_000_000), ("Gbit/s", 1_000_000_000)];

/// What is wrong with a value of another type.
pub(super) fn wrong_type(value: &DeValue<'_>, wanted: &str) -> String {
    format!("is of type {}: {wanted} is allowed", value.type_str())
}

/// A text that says something, without what is blank around it.
pub(super) fn text(value: &DeValue<'_>) -> Result<String, String> {
    let text = value.as_str().ok_or_else(|| wrong_type(value, "a text in quotes"))?;
    match text.trim() {
        "" => Err("is empty: write something".to_owned()),
        text => Ok(text.to_owned()),
    }
}

/// True or false.
pub(super) fn flag(value: &DeValue<'_>) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| wrong_type(value, "true or false"))
}

/// A text of one line.
pub(super) fn one_line(value: &DeValue<'_>) -> Result<String, String> {
    let text = text(value)?;
    if text.contains('\n') { Err("has more than one line: write one".to_owned()) } else { Ok(text) }
}

/// A name of any kind, in lower case.
pub(super) fn name<T>(value: &DeValue<'_>) -> Result<String, String>
where
    T: FromStr<Err = NameError> + Display,
{
    let text = text(value)?;
    text.parse::<T>().map(|name| name.to_string()).map_err(|why| format!("{text:?} cannot be a name: {why}"))
}

/// What hosts are called from now on.
pub(super) fn label(value: &DeValue<'_>) -> Result<String, String> {
    let text = text(value)?;
    if who::is_label(&text) {
        return Ok(text);
    }
    Err(match text.strip_prefix('@') {
        Some(label) if who::is_label(label) => format!("{text:?} is no label: write {label:?} here"),
        _ => format!("{text:?} is no label: letters, digits, '-' and '_' are allowed"),
    })
}

/// One of a few words.
pub(super) fn word(value: &DeValue<'_>, allowed: &[&'static str]) -> Result<&'static str, String> {
    let text = text(value)?;
    allowed
        .iter()
        .copied()
        .find(|word| *word == text)
        .ok_or_else(|| format!("{text:?} is unknown: {}", suggestion(&text, allowed)))
}

/// A time: a whole number and a unit.
pub(super) fn time(value: &DeValue<'_>) -> Result<Duration, String> {
    if let Some(text) = value.as_str() {
        return time_of(text);
    }
    if let Some(integer) = value.as_integer() {
        return time_of(&integer.to_string());
    }
    match value.as_float() {
        Some(float) => Err(format!("{float} has no unit: write a whole number and a unit, such as \"10s\"")),
        None => Err(wrong_type(value, "a time in quotes, such as \"10s\",")),
    }
}

/// A time that is longer than zero.
pub(super) fn length(value: &DeValue<'_>) -> Result<Duration, String> {
    let time = time(value)?;
    if time.is_zero() { Err("is zero: write a longer time".to_owned()) } else { Ok(time) }
}

/// A part of something that goes on and on: at least a millisecond, for each costs a step of the simulator.
pub(super) fn cycle(value: &DeValue<'_>) -> Result<Duration, String> {
    let length = length(value)?;
    if length >= CYCLE_MIN { Ok(length) } else { Err("is shorter than 1ms: write a longer time".to_owned()) }
}

/// How far a clock jumps, and whether backwards: a time behind a sign.
pub(super) fn jump(value: &DeValue<'_>) -> Result<(Duration, bool), String> {
    let text = text(value)?;
    let (rest, is_back) = match (text.strip_prefix('+'), text.strip_prefix('-')) {
        (Some(rest), _) => (rest, false),
        (None, Some(rest)) => (rest, true),
        (None, None) => return Err(format!("{text:?} has no sign: write \"+{text}\" or \"-{text}\"")),
    };
    let by = time_of(rest)?;
    if by.is_zero() { Err(format!("{text:?} is no jump: write a longer time")) } else { Ok((by, is_back)) }
}

fn time_of(text: &str) -> Result<Duration, String> {
    if text.starts_with('-') {
        return Err(format!("{text} is negative: no time is before the begin or shorter than zero"));
    }
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("{text} has no unit: write \"{text}s\""));
    }
    let time = unit_of(text).ok_or_else(|| {
        format!("{text:?} is no time: write a whole number and one of ns us ms s m h d, such as \"10s\"")
    })?;
    if time > Duration::from_secs(DAYS_MAX * SECONDS_PER_DAY) {
        return Err(format!("{text:?} is too long: at most \"{DAYS_MAX}d\" is allowed"));
    }
    Ok(time)
}

/// A time in one of the units of configurations, or in one that only a simulation has a use for.
fn unit_of(text: &str) -> Option<Duration> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    match unit {
        "ns" => Some(Duration::from_nanos(number)),
        "us" => Some(Duration::from_micros(number)),
        "d" => number.checked_mul(SECONDS_PER_DAY).map(Duration::from_secs),
        _ => duration::parse(text).ok(),
    }
}

/// A share, 0 to 1: a number, or a text in percent.
pub(super) fn share(value: &DeValue<'_>) -> Result<f64, String> {
    if let Some(text) = value.as_str() {
        return share_of(text);
    }
    match number_of(value) {
        Some(share) if (0.0..=1.0).contains(&share) => Ok(share),
        Some(share) => Err(format!("{share} is not allowed: 0 to 1, or \"0%\" to \"100%\"")),
        None => Err(wrong_type(value, "a share, such as \"1%\" or 0.01,")),
    }
}

/// A share in percent.
pub(super) fn share_of(text: &str) -> Result<f64, String> {
    let percent = text.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
    match percent.filter(|percent| percent.is_finite()) {
        Some(percent) if (0.0..=100.0).contains(&percent) => Ok(percent / 100.0),
        Some(_) => Err(format!("{text:?} is not allowed: \"0%\" to \"100%\"")),
        None => Err(format!("{text:?} is no share: write it as \"1%\" or 0.01")),
    }
}

/// A whole number.
pub(super) fn whole<N>(value: &DeValue<'_>, allowed: &RangeInclusive<N>) -> Result<N, String>
where
    N: Copy + PartialOrd + Display + TryFrom<i64>,
{
    let integer = value.as_integer().ok_or_else(|| wrong_type(value, "a whole number"))?;
    let number = i64::from_str_radix(integer.as_str(), integer.radix()).ok();
    let number = number.and_then(|number| N::try_from(number).ok()).filter(|number| allowed.contains(number));
    number.ok_or_else(|| format!("{integer} is not allowed: {} to {}", allowed.start(), allowed.end()))
}

/// A number that is not negative.
pub(super) fn amount(value: &DeValue<'_>) -> Result<f64, String> {
    match number_of(value) {
        Some(number) if number >= 0.0 => Ok(number),
        Some(number) => Err(format!("{number} is negative: 0 or more is allowed")),
        None => Err(wrong_type(value, "a number")),
    }
}

/// How often something happens.
pub(super) fn per_second(value: &DeValue<'_>) -> Result<f64, String> {
    let number = amount(value)?;
    if number > 0.0 && number <= PER_SECOND_MAX {
        return Ok(number);
    }
    Err(format!("{number} is not allowed: more than 0, at most {PER_SECOND_MAX}"))
}

/// Bits a second.
pub(super) fn bandwidth(value: &DeValue<'_>) -> Result<u64, String> {
    let text = text(value)?;
    let bits = BANDWIDTHS.iter().find_map(|(unit, bits)| {
        let number: u64 = text.strip_suffix(*unit)?.trim().parse().ok()?;
        number.checked_mul(*bits)
    });
    bits.filter(|bits| *bits > 0).ok_or_else(|| {
        format!(
            "{text:?} is no bandwidth: write a whole number and kbit/s, Mbit/s or Gbit/s, such as \"100Mbit/s\""
        )
    })
}

/// A finite number, whole or not.
fn number_of(value: &DeValue<'_>) -> Option<f64> {
    let number = match (value.as_integer(), value.as_float()) {
        (Some(integer), _) => i64::from_str_radix(integer.as_str(), integer.radix()).ok()? as f64,
        (None, float) => float?.as_str().parse::<f64>().ok()?,
    };
    Some(number).filter(|number| number.is_finite())
}

/// What to write instead of an unknown word.
pub(super) fn suggestion(word: &str, allowed: &[&'static str]) -> String {
    match slip(word, allowed) {
        Some(meant) => format!("did you mean {meant:?}?"),
        None => format!("allowed are {}", allowed.join(", ")),
    }
}

/// The allowed word that an unknown one is nearest to, if it is near.
pub(super) fn slip(word: &str, allowed: &[&'static str]) -> Option<&'static str> {
    let edits_max = |known: &str| if known.len() < SLIP_LETTERS_MIN { 1 } else { SLIP_EDITS_MAX };
    let is_near = |known: &str| word.len().abs_diff(known.len()) <= edits_max(known);
    let near = allowed.iter().copied().filter(|known| is_near(known));
    let (edits, known) = near.map(|known| (strsim::levenshtein(word, known), known)).min()?;
    (edits <= edits_max(known)).then_some(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit() {
        let check = |text: &str, want: Duration| assert_eq!(time_of(text), Ok(want), "{text}");
        check("7ns", Duration::from_nanos(7));
        check("300us", Duration::from_micros(300));
        check("250ms", Duration::from_millis(250));
        check("0s", Duration::ZERO);
        check("2m", Duration::from_secs(120));
        check("1h", Duration::from_secs(3_600));
        check("365d", Duration::from_secs(365 * 86_400));
        let refuse = |text: &str, want: &str| {
            let why = time_of(text).expect_err(text);
            assert!(why.contains(want), "{text}: {why}");
        };
        refuse("10", "10 has no unit: write \"10s\"");
        refuse("-10s", "-10s is negative");
        refuse("1.5s", "\"1.5s\" is no time: write a whole number and one of ns us ms s m h d");
        refuse("", "is no time");
        refuse("s", "is no time");
        refuse("36501d", "is too long: at most \"36500d\" is allowed");
        refuse("18446744073709551615d", "is no time");
    }

    #[test]
    fn shares_are_percent_or_fractions() {
        let check = |text: &str, want: Result<f64, &str>| {
            let read = share(DeValue::parse(text).expect(text).get_ref());
            match (read, want) {
                (Ok(read), Ok(want)) => assert!((read - want).abs() < 1e-12, "{text}: {read}"),
                (Err(why), Err(want)) => assert!(why.contains(want), "{text}: {why}"),
                (read, _) => panic!("{text}: {read:?}"),
            }
        };
        check("\"0.1%\"", Ok(0.001));
        check("\"100%\"", Ok(1.0));
        check("0.25", Ok(0.25));
        check("1", Ok(1.0));
        check("\"101%\"", Err("not allowed: \"0%\" to \"100%\""));
        check("\"-1%\"", Err("not allowed"));
        check("\"nan%\"", Err("no share"));
        check("\"25\"", Err("write it as \"1%\" or 0.01"));
        check("1.5", Err("1.5 is not allowed: 0 to 1"));
        check("true", Err("is of type boolean"));
    }

    #[test]
    fn bandwidths_are_bits_a_second() {
        let check = |text: &str, want: Option<u64>| {
            let value = DeValue::parse(text).expect(text);
            assert_eq!(bandwidth(value.get_ref()).ok(), want, "{text}");
        };
        check("\"64kbit/s\"", Some(64_000));
        check("\"100Mbit/s\"", Some(100_000_000));
        check("\"1 Gbit/s\"", Some(1_000_000_000));
        check("\"0Gbit/s\"", None);
        check("\"100\"", None);
        check("100", None);
    }

    #[test]
    fn a_slip_gets_a_suggestion() {
        let known = ["crash", "roll", "at", "who"];
        assert_eq!(suggestion("crahs", &known), "did you mean \"crash\"?");
        assert_eq!(suggestion("wo", &known), "did you mean \"who\"?");
        assert_eq!(suggestion("kill", &known), "allowed are crash, roll, at, who");
    }
}
