//! Which stack somebody who asks is: by its network, or by the listener that it asks.

use core::fmt;
use core::net::{IpAddr, SocketAddr};
use core::str::FromStr;

use ringmesh_dns::profile::Profile;

use super::cidr::Cidr;

/// Which askers a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Askers {
    /// Those in this network.
    In(Cidr),
    /// Those that ask this listener.
    Of(SocketAddr),
}

impl Askers {
    fn cover(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::In(network), Self::In(other)) => network.covers(other),
            (Self::Of(listener), Self::Of(other)) => listener == other,
            (Self::In(_), Self::Of(_)) | (Self::Of(_), Self::In(_)) => false,
        }
    }
}

/// Some askers are such a stack: `kamailio@10.0.0.0/8`, `pjsip@127.0.0.1:53`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// What they are.
    pub profile: Profile,
    /// Who.
    pub askers: Askers,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.askers {
            Askers::In(network) => write!(f, "{}@{network}", self.profile),
            Askers::Of(listener) => write!(f, "{}@{listener}", self.profile),
        }
    }
}

impl FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((profile, askers)) = text.split_once('@') else {
            return Err(format!(
                "{text:?} names nobody: write it as kamailio@10.0.0.0/8, or kamailio@127.0.0.1:53 for a listener"
            ));
        };
        let profile = Profile::read(profile)?;
        let askers = match askers.parse::<SocketAddr>() {
            Ok(listener) => Askers::Of(listener),
            Err(_) => Askers::In(askers.parse()?),
        };
        Ok(Self { profile, askers })
    }
}

/// Who is which stack.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Profiles {
    /// What everybody is whom no rule is about.
    pub default: Profile,
    /// The first that is about somebody holds.
    pub rules: Vec<Rule>,
}

impl Profiles {
    /// What remains to be looked at for those who ask `listener`.
    #[must_use]
    pub fn on(&self, listener: SocketAddr) -> Self {
        let mut rules = Vec::new();
        for rule in &self.rules {
            match rule.askers {
                Askers::In(_) => rules.push(*rule),
                Askers::Of(other) if other == listener => return Self { default: rule.profile, rules },
                Askers::Of(_) => {}
            }
        }
        Self { default: self.default, rules }
    }

    /// The rules that never hold, each with the earlier one that is about all its askers.
    pub fn never_hold(&self) -> impl Iterator<Item = (&Rule, &Rule)> {
        self.rules.iter().enumerate().filter_map(|(index, rule)| {
            let earlier = self.rules[..index].iter().find(|earlier| earlier.askers.cover(&rule.askers))?;
            Some((rule, earlier))
        })
    }

    /// What somebody at `address` is.
    pub fn of(&self, address: IpAddr) -> Profile {
        let is_about = |rule: &&Rule| match rule.askers {
            Askers::In(network) => network.contains(address),
            Askers::Of(_) => false,
        };
        self.rules.iter().find(is_about).map_or(self.default, |rule| rule.profile)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> Rule {
        text.parse().expect("a rule")
    }

    #[test]
    fn the_first_rule_that_is_about_an_asker_holds() {
        let texts = ["pjsip@10.1.0.0/16", "kamailio@127.0.0.1:53", "sofia@10.0.0.0/8"];
        let profiles = Profiles { default: Profile::Full, rules: texts.map(rule).to_vec() };
        let check = |listener: &str, address: &str, want: Profile| {
            let on = profiles.on(listener.parse().expect("an address and a port"));
            assert_eq!(on.of(address.parse().expect("an address")), want, "{address} asks {listener}");
        };
        check("127.0.0.1:53", "10.1.2.3", Profile::Pjsip);
        check("127.0.0.1:53", "10.2.2.3", Profile::Kamailio);
        check("127.0.0.1:53", "127.0.0.1", Profile::Kamailio);
        check("127.0.0.1:8600", "10.2.2.3", Profile::Sofia);
        check("127.0.0.1:8600", "127.0.0.1", Profile::Full);
        assert_eq!(profiles.rules.iter().map(ToString::to_string).collect::<Vec<_>>(), texts);
    }

    #[test]
    fn rules_that_come_too_late_are_found() {
        let check = |texts: &[&str], want: &[(&str, &str)]| {
            let rules = texts.iter().copied().map(rule).collect();
            let profiles = Profiles { default: Profile::Full, rules };
            let found = profiles.never_hold().map(|(rule, earlier)| (rule.to_string(), earlier.to_string()));
            let want = want.iter().map(|(rule, earlier)| ((*rule).to_owned(), (*earlier).to_owned()));
            assert_eq!(found.collect::<Vec<_>>(), want.collect::<Vec<_>>());
        };
        check(&["pjsip@10.1.0.0/16", "sofia@10.0.0.0/8", "kamailio@11.0.0.0/8"], &[]);
        check(
            &["sofia@10.0.0.0/8", "pjsip@10.1.0.0/16", "kamailio@10.0.0.0/8"],
            &[("pjsip@10.1.0.0/16", "sofia@10.0.0.0/8"), ("kamailio@10.0.0.0/8", "sofia@10.0.0.0/8")],
        );
        check(&["sofia@0.0.0.0/0", "pjsip@::/0", "pjsip@127.0.0.1:53"], &[]);
        check(
            &["sofia@127.0.0.1:53", "pjsip@127.0.0.2:53", "pjsip@127.0.0.1:53"],
            &[("pjsip@127.0.0.1:53", "sofia@127.0.0.1:53")],
        );
    }

    #[test]
    fn what_is_no_rule_is_said() {
        let check = |text: &str, why: &str| {
            let error = text.parse::<Rule>().expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        };
        check("kamailio", "names nobody");
        check("asterisk@10.0.0.0/8", "one of full, kamailio, kamailio-lb, opensips, pjsip, sofia");
        check("pjsip@10.0.0.1/8", "write it as 10.0.0.0/8");
        check("pjsip@everybody", "is no network");
    }
}
