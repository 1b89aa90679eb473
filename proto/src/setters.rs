//! Owns the setters of values that users make: one for each field, chained, so that a field that comes later breaks nobody.

/// Chained setters, each with its field's name.
///
/// ```
/// #[derive(Default)]
/// #[non_exhaustive]
/// struct Options {
///     /// Shown.
///     name: String,
/// }
///
/// zeolite_proto::setters! { Options { name: impl Into<String>, } }
///
/// assert_eq!(Options::default().name("web-3").name, "web-3");
/// ```
#[macro_export]
macro_rules! setters {
    ($type:ident { $($name:ident: $given:ty,)* }) => {
        impl $type {
            $(
                #[doc = concat!("Sets [`", stringify!($name), "`](field@", stringify!($type), "::", stringify!($name), ").")]
                #[must_use]
                pub fn $name(mut self, $name: $given) -> $type {
                    self.$name = $name.into();
                    self
                }
            )*
        }
    };
}
