//! Sets of rules, one for each class of a field's values, as bits in chunks of 512. A dimension's vectors differ from its
//! *wild* vector (the rules that do not look at the field) in few chunks, so only those are kept, each content once.

use hashbrown::HashMap;

use crate::bits::ones;

/// Bits in a chunk: one cache line.
pub const CHUNK_BITS: usize = 512;

/// Chunks that one word of a summary stands for.
pub const WORD_CHUNKS: usize = 64;

/// Vectors times chunks of a dimension that gets a table of all its chunks.
const MOST_ROWS: usize = 1 << 20;

/// 512 rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(align(64))]
pub struct Chunk([u64; 8]);

impl Chunk {
    /// No rule.
    pub const EMPTY: Self = Self([0; 8]);
    /// Each rule.
    pub const FULL: Self = Self([u64::MAX; 8]);

    /// Adds a rule, by its number in the chunk.
    pub fn insert(&mut self, bit: usize) {
        self.0[bit / 64] |= 1 << (bit % 64);
    }

    /// Takes a rule out, by its number in the chunk.
    pub fn remove(&mut self, bit: usize) {
        self.0[bit / 64] &= !(1 << (bit % 64));
    }

    /// The rules of both.
    #[must_use]
    #[inline]
    pub fn and(mut self, other: &Self) -> Self {
        for (word, other) in self.0.iter_mut().zip(&other.0) {
            *word &= other;
        }
        self
    }

    /// Takes those rules out that are in, and puts those in that are not.
    pub fn toggle(&mut self, other: &Self) {
        for (word, other) in self.0.iter_mut().zip(&other.0) {
            *word ^= other;
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.iter().fold(0, |all, word| all | word) == 0
    }

    /// How many.
    pub fn count(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    /// The first from one on, by its number in the chunk.
    #[inline]
    pub fn next(&self, from: usize) -> Option<usize> {
        let mut word = from / 64;
        let mut bits = self.0[word] & (u64::MAX << (from % 64));
        while bits == 0 {
            word += 1;
            bits = *self.0.get(word)?;
        }
        Some(word * 64 + bits.trailing_zeros() as usize)
    }
}

/// A set of rules as the chunks in which it has any, in order.
pub type Sparse = Vec<(usize, Chunk)>;

/// The set of some rules, which come in order.
pub fn sparse(rules: impl IntoIterator<Item = usize>) -> Sparse {
    let mut chunks: Sparse = Vec::new();
    for rule in rules {
        let number = rule / CHUNK_BITS;
        if chunks.last().is_none_or(|(last, _)| *last != number) {
            chunks.push((number, Chunk::EMPTY));
        }
        if let Some((_, chunk)) = chunks.last_mut() {
            chunk.insert(rule % CHUNK_BITS);
        }
    }
    chunks
}

/// 64 chunks of a vector.
#[derive(Clone, Copy, Debug)]
struct Word {
    /// Those that are not the wild ones, one bit a chunk.
    special: u64,
    /// Those that are not empty, one bit a chunk.
    summary: u64,
    /// Where the first special one's number stands.
    start: u32,
}

/// Number of a vector in its dimension.
pub type VectorId = u32;

/// The wild vector: it is also that of packets that do not have the field, except that no rule that tests it is there.
pub const WILD: VectorId = 0;

/// The vectors of one dimension.
#[derive(Debug)]
pub struct Vectors {
    words_each: usize,
    words: Vec<Word>,
    /// Of special chunks; one more than there are.
    numbers: Vec<u32>,
    /// The wild vector's first.
    chunks: Vec<Chunk>,
    /// Where there is room: of each chunk of each vector, which of `chunks` it is. Faster than to count special ones.
    rows: Vec<u32>,
    chunks_each: usize,
}

impl Vectors {
    /// How many different ones.
    pub fn len(&self) -> usize {
        self.words.len().checked_div(self.words_each).unwrap_or(0)
    }

    /// Which of 64 chunks of a vector have any rule, one bit a chunk.
    #[inline]
    pub fn summary(&self, vector: VectorId, word: usize) -> u64 {
        self.words[vector as usize * self.words_each + word].summary
    }

    /// A chunk of a vector.
    #[inline]
    pub fn chunk(&self, vector: VectorId, chunk: usize) -> &Chunk {
        match self.rows.get(vector as usize * self.chunks_each + chunk) {
            Some(number) => &self.chunks[*number as usize],
            None => &self.chunks[self.number(vector, chunk)],
        }
    }

    /// Which of `chunks` it is. Without a branch: which ones are special no processor can foretell.
    fn number(&self, vector: VectorId, chunk: usize) -> usize {
        let word = &self.words[vector as usize * self.words_each + chunk / WORD_CHUNKS];
        let bit = 1 << (chunk % WORD_CHUNKS);
        let before = (word.special & (bit - 1)).count_ones();
        let number = self.numbers[(word.start + before) as usize] as usize;
        if word.special & bit == 0 { chunk } else { number }
    }

    fn write_rows(&mut self) {
        let places =
            (0..self.len()).flat_map(|vector| (0..self.chunks_each).map(move |chunk| (vector as VectorId, chunk)));
        self.rows = places
            .map(|(vector, chunk)| self.number(vector, chunk) as u32)
            .collect();
    }

    /// How much memory they take.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.words) + size_of_val(&*self.numbers) + size_of_val(&*self.chunks) + size_of_val(&*self.rows)
    }

    /// How many different chunks are kept.
    pub fn chunks(&self) -> usize {
        self.chunks.len()
    }
}

/// Writes the vectors of a dimension: a set of rules that changes from class to class.
pub struct Writer {
    wild: Vec<Chunk>,
    current: Vec<Chunk>,
    changed: Vec<usize>,
    /// Of the current set, by chunk, where it is special.
    numbers: Vec<u32>,
    special: Vec<u64>,
    summary: Vec<u64>,
    contents: HashMap<Chunk, u32>,
    known: HashMap<Box<[(u32, u32)]>, VectorId>,
    key: Vec<(u32, u32)>,
    vectors: Vectors,
}

impl Writer {
    /// Begins with the wild vector.
    pub fn new(wild: Vec<Chunk>) -> Self {
        let words = wild.len().div_ceil(WORD_CHUNKS);
        let mut this = Self {
            current: wild.clone(),
            changed: (0..wild.len()).collect(),
            numbers: vec![0; wild.len()],
            special: vec![0; words],
            summary: vec![0; words],
            contents: HashMap::new(),
            known: HashMap::new(),
            key: Vec::new(),
            vectors: Vectors {
                words_each: words,
                words: Vec::new(),
                numbers: Vec::new(),
                chunks: wild.clone(),
                rows: Vec::new(),
                chunks_each: wild.len(),
            },
            wild,
        };
        this.vector();
        this
    }

    /// Takes rules out that are in, and puts those in that are not.
    pub fn toggle(&mut self, rules: &Sparse) {
        for (number, chunk) in rules {
            self.current[*number].toggle(chunk);
            self.changed.push(*number);
        }
    }

    /// The number of the vector that is the current set.
    pub fn vector(&mut self) -> VectorId {
        while let Some(chunk) = self.changed.pop() {
            self.look_at(chunk);
        }
        self.key.clear();
        for (word, bits) in self.special.iter().enumerate() {
            let chunks = ones(*bits).map(|bit| word * WORD_CHUNKS + bit);
            self.key.extend(chunks.map(|chunk| (chunk as u32, self.numbers[chunk])));
        }
        if let Some(known) = self.known.get(&*self.key) {
            return *known;
        }
        let number = self.known.len() as VectorId;
        self.known.insert(self.key.as_slice().into(), number);
        self.write();
        number
    }

    fn look_at(&mut self, chunk: usize) {
        let content = self.current[chunk];
        let (word, bit) = (chunk / WORD_CHUNKS, 1 << (chunk % WORD_CHUNKS));
        set(&mut self.summary[word], bit, !content.is_empty());
        set(&mut self.special[word], bit, content != self.wild[chunk]);
        if self.special[word] & bit != 0 {
            let chunks = &mut self.vectors.chunks;
            self.numbers[chunk] = *self.contents.entry(content).or_insert_with(|| {
                chunks.push(content);
                chunks.len() as u32 - 1
            });
        }
    }

    fn write(&mut self) {
        let Vectors { words, numbers, .. } = &mut self.vectors;
        let mut key = self.key.iter().peekable();
        for (word, (special, summary)) in self.special.iter().zip(&self.summary).enumerate() {
            words.push(Word {
                special: *special,
                summary: *summary,
                start: numbers.len() as u32,
            });
            while let Some((_, number)) = key.next_if(|(chunk, _)| *chunk as usize / WORD_CHUNKS == word) {
                numbers.push(*number);
            }
        }
    }

    /// All that were written.
    pub fn finish(self) -> Vectors {
        let mut vectors = self.vectors;
        vectors.numbers.push(0);
        if vectors.len() * vectors.chunks_each <= MOST_ROWS {
            vectors.write_rows();
        }
        vectors.words.shrink_to_fit();
        vectors.numbers.shrink_to_fit();
        vectors.chunks.shrink_to_fit();
        vectors
    }
}

fn set(word: &mut u64, bit: u64, on: bool) {
    *word = *word & !bit | if on { bit } else { 0 };
}
