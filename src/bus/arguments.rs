//! Names for the keys and arguments with which a script is called. A struct has them, and gives the
//! list for the call. The script begins with the same names as local variables, in the same order,
//! which a test compares. So nobody counts positions.

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
            /// The statement of the script that names them.
            #[cfg(test)]
            pub(super) fn names() -> String {
                let names = [$(stringify!($field)),*];
                let (list, count) = (stringify!($list), names.len());
                let names = names.join(", ");
                format!("local {list}_NAMED, {names} = {count}, unpack({list}, 1, {count})")
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
        assert_eq!(Example::names(), "local ARGV_NAMED, batch, seen = 2, unpack(ARGV, 1, 2)");
        let list = Example { seen: argument("s"), batch: argument(7) }.into_list();
        assert_eq!(list, [b"7", b"s"]);
    }
}
