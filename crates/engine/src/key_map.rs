//! A map from peers to what is known of them, for lookups that come once a message.
//!
//! Keys are handed out in rising order and there are some dozens, so a sorted list beats a tree:
//! a lookup touches one or two cache lines, and the same peer is nearly always meant several times
//! in a row. Iteration is in the order of keys, as everything that decides must be.

use std::cell::Cell;

use crate::event::PeerKey;

#[derive(Debug)]
pub(crate) struct KeyMap<V> {
    /// Sorted.
    keys: Vec<PeerKey>,
    /// Of the key at the same place.
    values: Vec<V>,
    /// Where the last lookup ended.
    last: Cell<usize>,
}

impl<V> Default for KeyMap<V> {
    fn default() -> Self {
        Self {
            keys: Vec::new(),
            values: Vec::new(),
            last: Cell::new(0),
        }
    }
}

impl<V> KeyMap<V> {
    pub(crate) fn insert(&mut self, key: PeerKey, value: V) -> Option<V> {
        match self.keys.binary_search(&key) {
            Ok(at) => Some(std::mem::replace(&mut self.values[at], value)),
            Err(at) => {
                self.keys.insert(at, key);
                self.values.insert(at, value);
                None
            }
        }
    }

    pub(crate) fn remove(&mut self, key: &PeerKey) -> Option<V> {
        let at = self.place(key)?;
        self.keys.remove(at);
        Some(self.values.remove(at))
    }

    pub(crate) fn get_mut(&mut self, key: &PeerKey) -> Option<&mut V> {
        let at = self.place(key)?;
        self.values.get_mut(at)
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.values.iter_mut()
    }

    pub(crate) fn retain(&mut self, keep: impl Fn(&V) -> bool) {
        let mut values = self.values.iter();
        self.keys.retain(|_| values.next().is_some_and(&keep));
        self.values.retain(keep);
    }

    pub(crate) fn get(&self, key: &PeerKey) -> Option<&V> {
        self.values.get(self.place(key)?)
    }

    pub(crate) fn contains_key(&self, key: &PeerKey) -> bool {
        self.place(key).is_some()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&PeerKey, &V)> {
        self.keys.iter().zip(&self.values)
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &PeerKey> {
        self.keys.iter()
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.values.iter()
    }

    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    fn place(&self, key: &PeerKey) -> Option<usize> {
        if self.keys.get(self.last.get()) == Some(key) {
            return Some(self.last.get());
        }
        let at = self.keys.binary_search(key).ok()?;
        self.last.set(at);
        Some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn it_behaves_like_a_map(steps in prop::collection::vec((0u8..5, 0u64..12), 0..80)) {
            let (mut map, mut model) = (KeyMap::default(), BTreeMap::new());
            for (nth, (what, key)) in (0u64..).zip(steps) {
                let key = PeerKey(key);
                match what {
                    0 | 1 => prop_assert_eq!(map.insert(key, nth), model.insert(key, nth)),
                    2 => prop_assert_eq!(map.remove(&key), model.remove(&key)),
                    3 => {
                        map.retain(|value| value % 3 != 0);
                        model.retain(|_, value| *value % 3 != 0);
                    }
                    _ => prop_assert_eq!(map.get_mut(&key), model.get_mut(&key)),
                }
                prop_assert_eq!(map.get(&key), model.get(&key));
                prop_assert_eq!(map.contains_key(&key), model.contains_key(&key));
                prop_assert!(map.iter().eq(model.iter()));
                prop_assert_eq!(map.len(), model.len());
            }
        }
    }
}
