//! Names for the keys and arguments with which a script is called. They are written once, in Rust:
//! the struct that has them gives the list for the call, and the line of the script that makes them
//! local variables. So nobody counts positions.

/// Declares such a struct, for the `KEYS` or the `ARGV` of a script, whose first ones it has.
macro_rules! named_arguments {
    (
        $(#[$doc:meta])*
        $list:ident: struct $name:ident { $($(#[$field_doc:meta])* $field:ident,)* }
    ) => {
        $(#[$doc])*
        pub(super) struct $name {
            $($(#[$field_doc])* pub(super) $field: Vec<u8>,)*
        }

        impl $name {
            const NAMES: &[&str] = &[$(stringify!($field)),*];

            /// How many there are.
            pub(super) const COUNT: usize = Self::NAMES.len();

            /// The line of the script that names them.
            pub(super) fn line() -> String {
                let (list, names) = (stringify!($list), Self::NAMES.join(", "));
                let count = Self::COUNT;
                format!("local {list}_NAMED, {names} = {count}, unpack({list}, 1, {count})\n")
            }

            /// Their values, in the order of the names.
            pub(super) fn into_list(self) -> Vec<Vec<u8>> {
                vec![$(self.$field),*]
            }
        }
    };
}

pub(super) use named_arguments;

named_arguments! {
    /// For a script that asks where channels of a stream stand.
    KEYS: struct PlacesKeys {
        meta_key,
        places_key,
        silent_key,
    }
}

impl PlacesKeys {
    /// Those of a stream.
    pub(super) fn new(keys: &super::Keys, stream: usize) -> PlacesKeys {
        PlacesKeys {
            meta_key: keys.meta(stream),
            places_key: keys.places(stream),
            silent_key: keys.silent(stream),
        }
    }
}

/// An argument that is a number, or a text.
pub(super) fn argument(value: impl std::fmt::Display) -> Vec<u8> {
    value.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    named_arguments! {
        /// Two.
        ARGV: struct Example {
            /// The one.
            batch,
            /// The other.
            seen,
        }
    }

    #[test]
    fn a_script_and_its_caller_have_the_same_names_in_the_same_order() {
        let line = "local ARGV_NAMED, batch, seen = 2, unpack(ARGV, 1, 2)\n";
        assert_eq!(Example::line(), line);
        let list = Example { seen: argument("s"), batch: argument(7) }.into_list();
        assert_eq!(list, [b"7", b"s"]);
        assert_eq!(list.len(), Example::COUNT);
    }
}
