//! Enums whose variants are words of sweep files and of the canonical JSON.

/// Declares such an enum: `words! { pub enum … }`. Attributes give the spelling of its variants.
macro_rules! words {
    ($($enum:tt)+) => {
        #[derive(
            Debug,
            Clone,
            Copy,
            PartialEq,
            Eq,
            Hash,
            PartialOrd,
            Ord,
            serde::Serialize,
            serde::Deserialize,
            strum::Display,
            strum::EnumString,
            strum::IntoStaticStr,
            strum::VariantNames,
            strum::VariantArray,
        )]
        $($enum)+
    };
}

/// Declares such an enum with facts about each variant, which need no code of other crates. A variant is its line of
/// documentation, its name, its word and its facts.
macro_rules! declared {
    (
        $(#[$attribute:meta])+
        pub enum $enum:ident: $visibility:vis $facts:ident {
            $($(#[doc = $description:literal])+ $name:ident $word:literal $values:tt)+
        }
    ) => {
        words! {
            $(#[$attribute])+
            pub enum $enum {
                $($(#[doc = $description])+ #[serde(rename = $word)] #[strum(serialize = $word)] $name,)+
            }
        }

        impl $enum {
            /// Returns the facts of the variant.
            $visibility const fn facts(self) -> $facts {
                match self {
                    $($enum::$name => $facts $values,)+
                }
            }

            /// Returns the line of documentation.
            pub fn description(self) -> &'static str {
                match self {
                    $($enum::$name => concat!($($description),+).trim(),)+
                }
            }
        }
    };
}
