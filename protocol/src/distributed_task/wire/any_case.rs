//! JSON whose member names are matched without regard to case, as .NET and Go read it.

use serde::de::value::{MapDeserializer, SeqDeserializer, StringDeserializer};
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, Unexpected, VariantAccess,
    Visitor,
};
use serde_json::{Error, Value};

/// Reads a JSON document; `SessionID`, `sessionid` and `sessionId` are the same member.
///
/// # Errors
/// What `serde_json` says of bytes that are no JSON or that have the wrong shape.
pub fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    // .NET writers may put a byte-order mark before UTF-8.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    from_value(serde_json::from_slice(bytes)?)
}

/// As [`from_slice`], from a document that has been parsed.
///
/// # Errors
/// As [`from_slice`].
pub fn from_value<T: DeserializeOwned>(value: Value) -> Result<T, Error> {
    T::deserialize(AnyCase(value))
}

struct AnyCase(Value);

impl<'de> IntoDeserializer<'de, Error> for AnyCase {
    type Deserializer = Self;
    fn into_deserializer(self) -> Self {
        self
    }
}

/// The declared name that equals `name` but for case; `name` itself when there is none.
fn declared(name: String, fields: &'static [&'static str]) -> String {
    match fields.iter().find(|field| field.eq_ignore_ascii_case(&name)) {
        Some(field) => (*field).to_owned(),
        None => name,
    }
}

impl<'de> Deserializer<'de> for AnyCase {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Array(items) => visitor.visit_seq(SeqDeserializer::new(items.into_iter().map(AnyCase))),
            Value::Object(members) => {
                visitor.visit_map(MapDeserializer::new(members.into_iter().map(|(name, value)| (name, AnyCase(value)))))
            }
            plain => plain.deserialize_any(visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let members = match self.0 {
            Value::Object(members) => members,
            // Read by serde alone it would be the members in their order.
            Value::Array(_) => return Err(de::Error::invalid_type(Unexpected::Seq, &visitor)),
            plain => return plain.deserialize_struct(name, fields, visitor),
        };
        // A member that occurs in two spellings counts once; the last one wins, as in .NET.
        let renamed: std::collections::BTreeMap<String, Value> =
            members.into_iter().map(|(name, value)| (declared(name, fields), value)).collect();
        visitor.visit_map(MapDeserializer::new(renamed.into_iter().map(|(name, value)| (name, AnyCase(value)))))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.0 {
            Value::String(variant) => visitor.visit_enum(Unit(declared(variant, variants))),
            other => other.deserialize_enum(name, variants, visitor),
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map identifier ignored_any
    }
}

/// A variant without content.
struct Unit(String);

impl<'de> EnumAccess<'de> for Unit {
    type Error = Error;
    type Variant = Self;
    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Error> {
        let name: StringDeserializer<Error> = self.0.into_deserializer();
        Ok((seed.deserialize(name)?, Unit(String::new())))
    }
}

impl<'de> VariantAccess<'de> for Unit {
    type Error = Error;
    fn unit_variant(self) -> Result<(), Error> {
        Ok(())
    }
    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, _: S) -> Result<S::Value, Error> {
        Err(serde::de::Error::custom("a variant without content has none"))
    }
    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Error> {
        Err(serde::de::Error::custom("a variant without content has none"))
    }
    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], _: V) -> Result<V::Value, Error> {
        Err(serde::de::Error::custom("a variant without content has none"))
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Outer {
        session_id: String,
        inner: Vec<Inner>,
        kind: Option<Kind>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Inner {
        max_parallelism: Option<u32>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "camelCase")]
    enum Kind {
        InProgress,
    }

    #[test]
    fn names_match_in_any_case_at_any_depth() {
        let read: Outer =
            from_slice(br#"{"SessionID":"x","Inner":[{"MAXPARALLELISM":3},{}],"Kind":"InProgress","other":1}"#)
                .unwrap();
        let meant = Outer {
            session_id: "x".into(),
            inner: vec![Inner { max_parallelism: Some(3) }, Inner { max_parallelism: None }],
            kind: Some(Kind::InProgress),
        };
        assert_eq!(read, meant);
    }

    #[test]
    fn wrong_shapes_and_broken_text_are_errors() {
        assert!(from_slice::<Inner>(b"[3]").unwrap_err().is_data(), "an array is no object");
        assert!(from_slice::<Outer>(b"{\"sessionId\":").unwrap_err().is_eof());
        assert!(from_slice::<Outer>(b"[]").is_err());
        assert!(from_slice::<Outer>(br#"{"sessionId":1,"inner":[]}"#).unwrap_err().is_data());
        assert!(from_slice::<Outer>(br#"{"sessionId":"x","inner":[],"kind":"Other"}"#).is_err());
    }

    #[test]
    fn a_byte_order_mark_is_tolerated() {
        assert_eq!(from_slice::<Inner>(b"\xef\xbb\xbf{}").unwrap(), Inner { max_parallelism: None });
    }
}
