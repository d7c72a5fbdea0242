//! Names for the keys and arguments of scripts. A struct has a field for each, and returns them as
//! the list for the call. The script gives the same names to local variables, in the same order,
//! and a test compares the two. So no code counts positions.

/// Declares such a struct for the first values in the `KEYS` or `ARGV` of a script.
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
            /// Returns the statement with which the script names the values.
            #[cfg(test)]
            pub(super) fn names() -> String {
                let names = [$(stringify!($field)),*];
                let (list, count) = (stringify!($list), names.len());
                let names = names.join(", ");
                format!("local {list}_NAMED, {names} = {count}, unpack({list}, 1, {count})")
            }

            /// Returns the values in the order of their names.
            pub(super) fn into_list(self) -> Vec<Vec<u8>> {
                vec![$(self.$field),*]
            }
        }
    };
}

pub(super) use named_arguments;

named_arguments! {
    /// Keys of scripts that read the positions of channels of one stream.
    KEYS: struct PlacesKeys {
        meta_key,
        places_key,
        silent_key,
    }
}

impl PlacesKeys {
    /// Returns the keys of a stream.
    pub(super) fn new(keys: &super::Keys, stream: usize) -> PlacesKeys {
        PlacesKeys {
            meta_key: keys.meta(stream),
            places_key: keys.places(stream),
            silent_key: keys.silent(stream),
        }
    }
}

/// Writes a number or a text as an argument.
pub(super) fn argument(value: impl std::fmt::Display) -> Vec<u8> {
    value.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    named_arguments! {
        /// An example with two arguments.
        ARGV: struct Example {
            /// The first one.
            batch,
            /// The second one.
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
