//! The recipes: what the paper does with a data set and an architecture, used where a sweep file says nothing.

use super::schema::{Key, LAST};
use super::values::Value::{self, Whole, Word};
use crate::run::settings::{Architecture, Dataset, Problem};

/// Settings for a data set, and for some or all architectures on it.
pub struct Recipe {
    pub dataset: Dataset,
    /// None: all of them.
    architectures: Option<&'static [Architecture]>,
    settings: &'static [(&'static str, &'static [Value])],
}

/// The first recipe that fits and has a setting decides it, so what is particular comes before what is general. A new
/// data set needs a recipe with all of these settings.
pub static RECIPES: &[Recipe] = &[
    // Small enough for a quickstart on one core; the paper's own studies are larger.
    Recipe {
        dataset: Dataset::Digits,
        architectures: None,
        settings: &[
            ("ticket.levels", &[Whole(12)]),
            ("ticket.prune_ratio", &[Value::real(0.2)]),
            ("ticket.warmup_epochs", &[Whole(10)]),
            ("ticket.epochs", &[Whole(4)]),
            ("ticket.batch", &[Whole(64)]),
            ("ticket.optimizer", &[Word("sgd")]),
            ("ticket.lr", &[Value::real(0.1)]),
            ("ticket.momentum", &[Value::real(0.9)]),
            ("ticket.weight_decay", &[Value::real(5e-4)]),
            ("transfer.level", &[Word(LAST)]),
            ("transfer.inherit", &[Word("sign"), Word("mask"), Word("retrain")]),
            ("transfer.epochs", &[Whole(12)]),
            ("transfer.schedule", &[Word("multi-step")]),
        ],
    },
];

/// What the recipes say about a setting. Every problem has all settings whose default is a recipe; a test sees to it.
pub fn recipe(problem: Problem, key: &Key) -> &'static [Value] {
    let fitting = RECIPES.iter().filter(|recipe| recipe.fits(problem));
    fitting.filter_map(|recipe| recipe.get(key)).next().unwrap_or_default()
}

impl Recipe {
    fn fits(&self, problem: Problem) -> bool {
        let architecture = self.architectures.is_none_or(|some| some.contains(&problem.architecture));
        self.dataset == problem.dataset && architecture
    }

    pub fn get(&self, key: &Key) -> Option<&'static [Value]> {
        self.settings.iter().find(|(path, _)| *path == key.path).map(|(_, values)| *values)
    }
}
