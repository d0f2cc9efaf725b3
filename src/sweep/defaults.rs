//! The recipes: the paper's settings for data sets and architectures, used as defaults of sweep files.

use std::fmt;

use strum::VariantArray;
use winsign_core::dataset;
use winsign_core::settings::{Architecture, Dataset, Problem};

use super::keys::{ALL, Key, LAST};
use super::values::Value::{self, Whole, Word};

/// Settings for the data sets that name it, and for some or all architectures on them.
pub(crate) struct Recipe {
    name: dataset::Recipe,
    /// The architectures of the recipe; `None` for all.
    architectures: Option<&'static [Architecture]>,
    settings: &'static [(&'static str, &'static [Value])],
}

/// The recipes in order of precedence: the first one that fits and has a setting applies, so specific recipes come
/// before general ones. Each data set has a recipe with all settings for all architectures, including those that do not
/// fit it, so that `exclude` can name such combinations.
pub(crate) static RECIPES: &[Recipe] = &[
    // Small enough for a quickstart on one core; the paper's own studies are larger.
    Recipe {
        name: dataset::Recipe::Quick,
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
    Recipe {
        name: dataset::Recipe::GrayImages,
        architectures: None,
        settings: &[
            ("ticket.levels", &[Whole(12)]),
            ("ticket.prune_ratio", &[Value::real(0.2)]),
            ("ticket.warmup_epochs", &[Whole(4)]),
            ("ticket.epochs", &[Whole(2)]),
            ("ticket.batch", &[Whole(128)]),
            ("ticket.optimizer", &[Word("sgd")]),
            ("ticket.lr", &[Value::real(0.1)]),
            ("ticket.momentum", &[Value::real(0.9)]),
            ("ticket.weight_decay", &[Value::real(5e-4)]),
            ("transfer.level", &[Word(LAST)]),
            ("transfer.inherit", &[Word("sign"), Word("mask"), Word("retrain")]),
            ("transfer.epochs", &[Whole(20)]),
            ("transfer.schedule", &[Word("multi-step")]),
        ],
    },
    Recipe {
        name: dataset::Recipe::SmallImages,
        architectures: Some(&[Architecture::MobileNetV2]),
        settings: &[("ticket.lr", &[Value::real(0.05)])],
    },
    Recipe {
        name: dataset::Recipe::SmallImages,
        architectures: None,
        settings: &[
            ("ticket.levels", &[Whole(15)]),
            ("ticket.prune_ratio", &[Value::real(0.2)]),
            ("ticket.warmup_epochs", &[Whole(10)]),
            ("ticket.epochs", &[Whole(10)]),
            ("ticket.batch", &[Whole(128)]),
            ("ticket.optimizer", &[Word("sgd")]),
            ("ticket.lr", &[Value::real(0.1)]),
            ("ticket.momentum", &[Value::real(0.9)]),
            ("ticket.weight_decay", &[Value::real(5e-4)]),
            ("transfer.level", &[Word(ALL)]),
            ("transfer.inherit", &[Word("sign"), Word("mask"), Word("retrain")]),
            ("transfer.epochs", &[Whole(100)]),
            ("transfer.schedule", &[Word("multi-step")]),
        ],
    },
    Recipe {
        name: dataset::Recipe::LargeImages,
        architectures: Some(&[Architecture::MobileNetV2]),
        settings: &[
            ("ticket.optimizer", &[Word("sgd")]),
            ("ticket.lr", &[Value::real(0.05)]),
            ("ticket.weight_decay", &[Value::real(5e-5)]),
        ],
    },
    Recipe {
        name: dataset::Recipe::LargeImages,
        architectures: Some(&[Architecture::MlpMixer]),
        settings: &[("ticket.batch", &[Whole(512)]), ("ticket.weight_decay", &[Value::real(5e-5)])],
    },
    Recipe {
        name: dataset::Recipe::LargeImages,
        architectures: None,
        settings: &[
            ("ticket.levels", &[Whole(10)]),
            ("ticket.prune_ratio", &[Value::real(0.2)]),
            ("ticket.warmup_epochs", &[Whole(20)]),
            ("ticket.epochs", &[Whole(5)]),
            ("ticket.batch", &[Whole(256)]),
            ("ticket.optimizer", &[Word("adam")]),
            ("ticket.lr", &[Value::real(0.001)]),
            // β₁ of Adam where the optimizer is that.
            ("ticket.momentum", &[Value::real(0.9)]),
            ("ticket.weight_decay", &[Value::real(1e-5)]),
            ("transfer.level", &[Word(LAST)]),
            ("transfer.inherit", &[Word("sign"), Word("retrain")]),
            ("transfer.epochs", &[Whole(100)]),
            ("transfer.schedule", &[Word("cosine")]),
        ],
    },
];

/// Returns the values of a setting from the recipes. Every problem has all settings whose default is a recipe, which a
/// test checks.
pub(crate) fn recipe(problem: Problem, key: &Key) -> &'static [Value] {
    let fitting = RECIPES.iter().filter(|recipe| recipe.fits(problem));
    fitting.filter_map(|recipe| recipe.get(key)).next().unwrap_or_default()
}

/// Describes the defaults of a setting for the data sets and architectures.
pub(crate) fn describe(key: &Key) -> String {
    let mut known: Vec<(String, Vec<String>)> = Vec::new();
    for (values, recipe) in RECIPES.iter().filter_map(|recipe| Some((recipe.get(key)?, recipe))) {
        let text = values.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        match known.iter_mut().find(|(other, _)| *other == text) {
            Some((_, recipes)) => recipes.push(recipe.to_string()),
            None => known.push((text, vec![recipe.to_string()])),
        }
    }
    match known.as_slice() {
        [(everywhere, _)] => everywhere.clone(),
        _ => {
            let texts = known.iter().map(|(text, recipes)| format!("{text} {}", recipes.join(" and ")));
            texts.collect::<Vec<_>>().join("; ")
        }
    }
}

impl Recipe {
    fn fits(&self, problem: Problem) -> bool {
        let architecture = self.architectures.is_none_or(|some| some.contains(&problem.architecture));
        problem.dataset.facts().recipe == self.name && architecture
    }

    pub(crate) fn get(&self, key: &Key) -> Option<&'static [Value]> {
        self.settings.iter().find(|(path, _)| *path == key.path).map(|(_, values)| *values)
    }
}

impl fmt::Display for Recipe {
    /// Writes the scope of the recipe, for example `for mobilenetv2 on cifar10, cifar100`.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let joined = |names: Vec<String>| names.join(", ");
        if let Some(architectures) = self.architectures {
            write!(f, "for {} ", joined(architectures.iter().map(ToString::to_string).collect()))?;
        }
        let datasets = Dataset::VARIANTS.iter().filter(|dataset| dataset.facts().recipe == self.name);
        write!(f, "on {}", joined(datasets.map(ToString::to_string).collect()))
    }
}
