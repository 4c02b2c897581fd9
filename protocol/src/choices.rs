//! Where a real project's design and the repaired one differ, each difference one field of a struct.
//!
//! A system's `Choices` are declared once, with the macro `choices!`. A bug is the repaired design with one field put
//! back to what the real project has, or had in an earlier version.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A system's design: every point in which the real one and the repaired one differ.
pub trait Design: Clone + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The system's short name, the first part of its bugs' names.
    const SYSTEM: &'static str;

    /// As the real project's source has it.
    fn upstream() -> Self;

    /// Repaired.
    fn hardened() -> Self;

    /// Every way to put one field of the repaired design back.
    fn choices() -> &'static [Choice<Self>];

    /// The design of this name: `upstream`, `hardened`, or hardened with the bug of this name.
    fn named(variant: &str) -> Option<Self> {
        match variant {
            "upstream" => Some(Self::upstream()),
            "hardened" => Some(Self::hardened()),
            bug => {
                let choice = Self::choices().iter().find(|choice| choice.bug() == bug)?;
                let mut design = Self::hardened();
                (choice.put_back)(&mut design);
                Some(design)
            }
        }
    }
}

/// One field of a design, and a value of it that some version of the real project has.
pub struct Choice<D> {
    /// The field's name.
    pub field: &'static str,
    /// Whether the present version has it.
    pub since: Since,
    /// What goes wrong with it, in a few words.
    pub summary: &'static str,
    /// The upstream issue, or the place in its source.
    pub upstream: &'static str,
    /// For which unknowns of the real server it shows, where not for all.
    pub shows_when: Option<&'static str>,
    /// Sets the field to that value.
    pub put_back: fn(&mut D),
}

/// Which version of the real project has a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// The one that `upstream` stands for.
    Present,
    /// An earlier one, one that only some installations run, or one of another project whose agent does the same: the
    /// variant's name.
    Formerly(&'static str),
}

impl<D: Design> Choice<D> {
    /// The stable name of the bug, such as `actions.conflict-budget`; for a former value `arc.order.delete-first`.
    pub fn bug(&self) -> String {
        let field = format!("{}.{}", D::SYSTEM, self.field.replace('_', "-"));
        match self.since {
            Since::Present => field,
            Since::Formerly(variant) => format!("{field}.{}", kebab(variant)),
        }
    }
}

impl<D: Design> std::fmt::Debug for Choice<D> {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(to, "{} ({})", self.bug(), self.upstream)
    }
}

/// `DeleteFirst` as `delete-first`.
fn kebab(variant: &str) -> String {
    let mut name = String::new();
    for letter in variant.chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('-');
        }
        name.extend(letter.to_lowercase());
    }
    name
}

/// Declares a system's `Choices`: the enum of each field, the struct, and its [`Design`].
///
/// A field has the real project's value (`upstream`) and the repaired one (`hardened`), and may have values of earlier
/// versions and of other projects (`formerly`). Each value but the repaired one is a bug, with its summary and its
/// reference. A field of which only earlier versions need repair has `upstream` alone, which is then the repaired value,
/// too. Where only some unknowns of the real server let a bug show, `if` says which. A type that several systems share is
/// declared once, in a module that `of` names.
macro_rules! choices {
    (
        system $system:literal;
        $(
            $(#[$about:meta])*
            $field:ident: $type:ident $(of $home:ident)? {
                $(#[$real:meta])* upstream $upstream:ident
                $(, $(#[$repaired:meta])* hardened $hardened:ident)? $(,)?
                $(; $(#[$old:meta])* formerly $former:ident
                    because $former_summary:literal from $former_reference:literal
                    $(if $former_condition:literal)?)*
            }
            $(because $summary:literal from $reference:literal $(if $condition:literal)?)?;
        )*
    ) => {
        $($crate::choices::choice_type! {
            [$($home)?]
            $(#[$about])*
            pub enum $type {
                $(#[$real])* $upstream,
                $($(#[$repaired])* $hardened,)?
                $($(#[$old])* $former,)*
            }
        })*

        /// Every difference between the real design and the repaired one.
        #[derive(Clone, Debug, PartialEq, Eq, ::serde::Serialize, ::serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct Choices { $($(#[$about])* pub $field: $type,)* }

        impl Choices {
            /// The real project's design, as its source has it.
            pub const fn upstream() -> Self {
                Self { $($field: $type::$upstream,)* }
            }

            /// The repaired design.
            pub const fn hardened() -> Self {
                Self { $($field: $crate::choices::repaired!($type $upstream $($hardened)?),)* }
            }
        }

        impl $crate::choices::Design for Choices {
            const SYSTEM: &'static str = $system;

            fn upstream() -> Self {
                Self::upstream()
            }

            fn hardened() -> Self {
                Self::hardened()
            }

            fn choices() -> &'static [$crate::choices::Choice<Self>] {
                const ALL: &[$crate::choices::Choice<Choices>] = &[$(
                    $($crate::choices::Choice {
                        field: stringify!($field),
                        since: $crate::choices::Since::Present,
                        summary: $summary,
                        upstream: $reference,
                        shows_when: $crate::choices::condition!($($condition)?),
                        put_back: |choices| choices.$field = $type::$upstream,
                    },)?
                    $($crate::choices::Choice {
                        field: stringify!($field),
                        since: $crate::choices::Since::Formerly(stringify!($former)),
                        summary: $former_summary,
                        upstream: $former_reference,
                        shows_when: $crate::choices::condition!($($former_condition)?),
                        put_back: |choices| choices.$field = $type::$former,
                    },)*
                )*];
                ALL
            }
        }
    };
}

/// The type of a choice: the one that is declared here, or the one of the module that it is shared from.
macro_rules! choice_type {
    ([] $(#[$about:meta])* pub enum $type:ident { $($(#[$meaning:meta])* $variant:ident,)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, ::serde::Serialize, ::serde::Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $type { $($(#[$meaning])* $variant,)* }
    };
    ([$home:ident] $(#[$about:meta])* pub enum $type:ident { $($(#[$meaning:meta])* $variant:ident,)* }) => {
        pub use $home::$type;
    };
}

/// The repaired value of a field: the present one, where there is no other.
macro_rules! repaired {
    ($type:ident $upstream:ident) => {
        $type::$upstream
    };
    ($type:ident $upstream:ident $hardened:ident) => {
        $type::$hardened
    };
}

/// An optional literal as an `Option`.
macro_rules! condition {
    () => {
        None
    };
    ($condition:literal) => {
        Some($condition)
    };
}

pub(crate) use {choice_type, choices, condition, repaired};

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    mod shared {
        use serde::{Deserialize, Serialize};

        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub enum Crash {
            Silent,
            Reported,
        }
    }

    choices! {
        system "toy";

        /// What becomes of a crash.
        crash: Crash of shared { upstream Silent, hardened Reported }
        because "nobody hears of it" from "toy#4";

        /// When a message is acknowledged.
        order: Order {
            /// Before its effect.
            upstream Early,
            /// After its effect.
            hardened Late;
            /// Never.
            formerly NotAtAll because "messages come back for ever" from "toy#1" if "messages have no life"
        }
        because "a crash loses messages" from "toy#2" if "the server deletes at once";

        /// How long to wait.
        wait: Wait {
            /// Not at all.
            upstream None,
            /// A little.
            hardened Some,
        }
        because "hammers" from "toy#3";

        /// Whom a message is sent to.
        receiver: Receiver {
            /// The one that asked.
            upstream Asker;
            /// Whoever is there.
            formerly Anybody because "messages go astray" from "toy#5"
        };
    }

    #[test]
    fn each_choice_puts_back_its_field_alone() {
        let hardened = serde_json::to_value(Choices::hardened()).unwrap();
        let mut names = BTreeSet::new();
        for choice in Choices::choices() {
            let bug = Choices::named(&choice.bug()).unwrap();
            let bug = serde_json::to_value(bug).unwrap();
            let changed = hardened.as_object().unwrap().iter().filter(|(field, value)| bug[*field] != **value);
            assert_eq!(changed.map(|(field, _)| field.as_str()).collect::<Vec<_>>(), [choice.field]);
            names.insert(choice.bug());
        }
        assert_eq!(
            names.into_iter().collect::<Vec<_>>(),
            ["toy.crash", "toy.order", "toy.order.not-at-all", "toy.receiver.anybody", "toy.wait"]
        );
        assert_eq!(Choices::choices()[1].shows_when, Some("the server deletes at once"));
        assert_eq!(Choices::choices()[2].shows_when, Some("messages have no life"));
    }

    #[test]
    fn variants_are_found_by_name_and_nothing_else_is() {
        assert_eq!(Choices::named("upstream"), Some(Choices::upstream()));
        assert_eq!(Choices::named("hardened"), Some(Choices::hardened()));
        assert_eq!(Choices::named("toy.order.not-at-all").unwrap().order, Order::NotAtAll);
        assert_eq!(Choices::named("toy.nothing"), None);
        assert_eq!(Choices::named("toy.receiver"), None, "the present version has it repaired");
    }
}
