//! A run's identity: a hash of everything that can change its result.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::settings::{Kind, Settings};

/// The version of the computations. It is raised when the same settings begin to give other results, so that results
/// from before and after are never mixed.
const SCIENCE_VERSION: u32 = 1;

/// The identity of a run: 16 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RunId(String);

impl RunId {
    /// Returns the identity as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for RunId {
    type Err = String;

    fn from_str(text: &str) -> Result<RunId, String> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() == 16 && text.bytes().all(is_digit) {
            Ok(RunId(text.to_string()))
        } else {
            Err(format!("'{text}' is not a run identity (16 hexadecimal digits)"))
        }
    }
}

impl TryFrom<String> for RunId {
    type Error = String;

    fn try_from(text: String) -> Result<RunId, String> {
        text.parse()
    }
}

impl From<RunId> for String {
    fn from(id: RunId) -> String {
        id.0
    }
}

/// A run: its settings, and the runs that it needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    pub id: RunId,
    pub settings: Settings,
    /// The runs whose results this one reads, in a fixed order. A ticket of an iterative method reads the level before
    /// it (nothing at level 0), and then the network that it rewinds to unless that is the initialization. A transfer
    /// reads its ticket (nothing if it is dense). A connection reads its ends: two for a path (one ticket for
    /// `norm-init`), three for a plane, and many for a block of a matrix.
    pub inputs: Vec<RunId>,
}

impl Run {
    /// Creates a run and derives its identity from settings and inputs.
    pub fn new(settings: Settings, inputs: Vec<RunId>) -> Run {
        #[derive(Serialize)]
        struct Identified<'a> {
            science: u32,
            settings: &'a Settings,
            inputs: &'a [RunId],
        }
        let identified = Identified { science: SCIENCE_VERSION, settings: &settings, inputs: &inputs };
        // Struct fields serialize in the order they are declared, so equal settings give equal text.
        let canonical = serde_json::to_vec(&identified).expect("settings are plain data");
        let id = RunId(blake3::hash(&canonical).to_hex()[..16].to_string());
        Run { id, settings, inputs }
    }

    /// Returns the kind of the run.
    pub fn kind(&self) -> Kind {
        self.settings.kind()
    }
}

#[cfg(test)]
mod tests {
    use super::super::settings::*;
    use super::*;

    fn ticket(level: u32, lr: f64) -> Settings {
        Settings::Ticket(Ticket {
            problem: Problem::new(Dataset::Digits, Architecture::ResNet8),
            method: Method::Lrr,
            level,
            prune_ratio: (level > 0).then_some(0.2),
            rewind_epoch: None,
            training: Training {
                optimizer: Default::default(),
                epochs: 4,
                batch: 64,
                lr,
                momentum: 0.9,
                weight_decay: 5e-4,
                schedule: Schedule::Constant,
                precision: Default::default(),
            },
            seeds: Seeds::from(1),
        })
    }

    #[test]
    fn identity_depends_on_settings_and_inputs() {
        let start = Run::new(ticket(0, 0.1), vec![]);
        assert_eq!(start.id, Run::new(ticket(0, 0.1), vec![]).id);
        assert_ne!(start.id, Run::new(ticket(0, 0.05), vec![]).id);
        let other_start = Run::new(ticket(0, 0.05), vec![]);
        let from = |input: &Run| Run::new(ticket(1, 0.1), vec![input.id.clone()]).id;
        assert_ne!(from(&start), from(&other_start));
    }

    /// Later versions must find the results of earlier ones: this value changes only together with `SCIENCE_VERSION`.
    #[test]
    fn identity_is_stable() {
        assert_eq!(Run::new(ticket(0, 0.1), vec![]).id.as_str(), "daf206d2cbd1bbe0");
    }

    #[test]
    fn run_id_of_another_form_is_rejected() {
        assert!("0123456789abcdef".parse::<RunId>().is_ok());
        for bad in ["", "0123456789ABCDEF", "0123456789abcde", "../../etc/passwd"] {
            assert!(bad.parse::<RunId>().is_err(), "{bad}");
        }
    }
}
