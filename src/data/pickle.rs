//! Pickles of the Python version of CIFAR: a reader and a writer.
//!
//! A pickle is a program for a stack machine, and may call any function of Python. Here it can call a few, all of which
//! create data: the arrays, types and integers of `numpy`, and the encoding of text as bytes; anything else becomes an
//! opaque value. Protocols 2 to 5 are supported. (General readers of pickles do not know the arrays of numpy, lose their type,
//! and copy their bytes several times.)
//!
//! Nothing here is recursive, so no file can exhaust the stack of the program; large byte strings are not copied.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

/// An error in a pickle, with its offset in the file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Damage {
    pub offset: usize,
    pub reason: String,
}

/// A parsed pickle: a dictionary, whose values the methods return.
#[derive(Debug)]
pub(crate) struct Pickle<'a> {
    file: &'a [u8],
    /// All values that were created; they refer to each other by index.
    values: Vec<Value>,
    entries: Vec<(usize, usize)>,
}

/// An array of bytes with two dimensions, in row-major order.
pub(crate) struct Matrix<'a> {
    pub rows: usize,
    pub columns: usize,
    pub bytes: Cow<'a, [u8]>,
}

impl<'a> Pickle<'a> {
    pub(crate) fn parse(file: &'a [u8]) -> Result<Pickle<'a>, Damage> {
        let mut machine = Machine { file, at: 0, values: vec![], stack: vec![], marks: vec![], memo: HashMap::new() };
        let top = machine.run().map_err(|damage| match old_protocol(file) {
            Some(protocol) => Damage {
                offset: 0,
                reason: format!("it has pickle protocol {protocol}; write it again with protocol 2 to 5"),
            },
            None => damage,
        })?;
        match &machine.values[top] {
            Value::Dict(entries) => Ok(Pickle { file, entries: entries.clone(), values: machine.values }),
            other => Err(Damage { offset: 0, reason: format!("the pickle holds {}, not a dictionary", other.kind()) }),
        }
    }

    /// Returns the integers under a key: a list, a tuple or a numpy array. Errors describe the value that is there instead.
    pub(crate) fn integers(&self, key: &str) -> Result<Vec<i64>, String> {
        match &self.values[self.find(key)?] {
            Value::List(items) | Value::Tuple(items) => {
                let integer = |(index, &item): (usize, &usize)| match &self.values[item] {
                    Value::Integer(value) => Ok(*value),
                    other => Err(format!("item {index} of {key:?} is {}, not an integer", other.kind())),
                };
                items.iter().enumerate().map(integer).collect()
            }
            Value::Array(Some(array)) => self.integers_of(key, array),
            other => Err(format!("the value of {key:?} is {}, not a list", other.kind())),
        }
    }

    /// Returns the integers in a numpy array of one dimension.
    fn integers_of(&self, key: &str, array: &Array) -> Result<Vec<i64>, String> {
        let Some(integer) = IntegerType::parse(&array.dtype) else {
            return Err(format!("the array {key:?} has the numpy type {:?}, not integers", array.dtype));
        };
        // A column is as good as a row.
        let &[length, ref others @ ..] = &array.shape[..] else {
            return Err(format!("the array {key:?} has no dimension instead of 1"));
        };
        if others.iter().any(|&size| size != 1) {
            return Err(format!("the array {key:?} has {} dimensions instead of 1", array.shape.len()));
        }
        let bytes = self.bytes(array.data).expect("the machine took only bytes");
        if length.checked_mul(integer.size) != Some(bytes.len()) {
            return Err(format!(
                "the array {key:?} should have {length} items of {} bytes and has {} bytes",
                integer.size,
                bytes.len()
            ));
        }
        Ok(bytes.chunks_exact(integer.size).map(|bytes| integer.decode(bytes)).collect())
    }

    /// Returns the numpy array of bytes with two dimensions under a key.
    pub(crate) fn matrix(&self, key: &str) -> Result<Matrix<'a>, String> {
        let Value::Array(array) = &self.values[self.find(key)?] else {
            return Err(format!("the value of {key:?} is {}, not a numpy array", self.values[self.find(key)?].kind()));
        };
        let Some(Array { shape, dtype, fortran, data }) = array else {
            return Err(format!("the array {key:?} has no content"));
        };
        if !matches!(dtype.as_str(), "u1" | "|u1" | "uint8" | "B") {
            return Err(format!("the array {key:?} has the numpy type {dtype:?}, not bytes (\"u1\")"));
        }
        let &[rows, columns] = &shape[..] else {
            return Err(format!("the array {key:?} has {} dimensions instead of 2", shape.len()));
        };
        let bytes = self.bytes(*data).expect("the machine took only bytes");
        if rows.checked_mul(columns) != Some(bytes.len()) {
            return Err(format!("the array {key:?} should have {rows} × {columns} bytes and has {}", bytes.len()));
        }
        let bytes = if *fortran { Cow::Owned(transposed(&bytes, rows, columns)) } else { bytes };
        Ok(Matrix { rows, columns, bytes })
    }

    fn find(&self, key: &str) -> Result<usize, String> {
        // As in Python, the last of equal keys is used.
        let found = self.entries.iter().rev().find(|(name, _)| self.bytes(*name).as_deref() == Some(key.as_bytes()));
        found.map(|&(_, value)| value).ok_or_else(|| {
            let names = self.entries.iter().filter_map(|&(name, _)| self.bytes(name));
            let names: Vec<_> = names.map(|name| String::from_utf8_lossy(&name).into_owned()).collect();
            format!("it has no {key:?}, only {names:?}")
        })
    }

    fn bytes(&self, value: usize) -> Option<Cow<'a, [u8]>> {
        bytes_of(self.file, &self.values, value)
    }
}

/// Returns text or bytes. Encoded text is converted only here, so that memory holds a large array at most twice.
fn bytes_of<'a>(file: &'a [u8], values: &[Value], value: usize) -> Option<Cow<'a, [u8]>> {
    match &values[value] {
        Value::Bytes(range) | Value::Text(range) => Some(Cow::Borrowed(&file[range.clone()])),
        Value::Latin1(range) => {
            let text = std::str::from_utf8(&file[range.clone()]).expect("checked where it was made");
            Some(Cow::Owned(text.chars().map(|character| character as u8).collect()))
        }
        _ => None,
    }
}

#[derive(Debug, Clone)]
enum Value {
    None,
    Bool(bool),
    Integer(i64),
    /// Bytes, or a string of Python 2: a range of the file.
    Bytes(Range<usize>),
    /// Text in UTF-8: a range of the file.
    Text(Range<usize>),
    /// Bytes that are stored as text with the same code points, as Python 3 does in protocol 2.
    Latin1(Range<usize>),
    List(Vec<usize>),
    Tuple(Vec<usize>),
    Dict(Vec<(usize, usize)>),
    /// A function or class: its module and its name.
    Global(String, String),
    /// A numpy type.
    Dtype(String),
    /// A numpy array; `None` until its state is known.
    Array(Option<Array>),
    /// A value that is not used here.
    Opaque,
}

#[derive(Debug, Clone)]
struct Array {
    shape: Vec<usize>,
    dtype: String,
    /// True if the array is stored in column-major order.
    fortran: bool,
    data: usize,
}

impl Value {
    fn kind(&self) -> &'static str {
        match self {
            Value::None => "None",
            Value::Bool(_) => "a boolean",
            Value::Integer(_) => "an integer",
            Value::Bytes(_) | Value::Latin1(_) => "a byte string",
            Value::Text(_) => "a string",
            Value::List(_) => "a list",
            Value::Tuple(_) => "a tuple",
            Value::Dict(_) => "a dictionary",
            Value::Global(..) => "a function or class",
            Value::Dtype(_) => "a numpy type",
            Value::Array(_) => "a numpy array",
            Value::Opaque => "an object of an unknown class",
        }
    }
}

struct Machine<'a> {
    file: &'a [u8],
    at: usize,
    values: Vec<Value>,
    stack: Vec<usize>,
    /// The heights of the stack at which marks were set.
    marks: Vec<usize>,
    memo: HashMap<u64, usize>,
}

/// The names of opcodes are those of `pickletools` in Python.
impl<'a> Machine<'a> {
    /// Executes the file up to STOP; returns the value on top of the stack.
    fn run(&mut self) -> Result<usize, Damage> {
        loop {
            let start = self.at;
            let done = self.step().map_err(|reason| Damage { offset: start, reason })?;
            if let Some(value) = done {
                return match self.at == self.file.len() {
                    true => Ok(value),
                    false => Err(Damage { offset: self.at, reason: "data follow the end of the pickle".to_string() }),
                };
            }
        }
    }

    fn step(&mut self) -> Result<Option<usize>, String> {
        let opcode = self.take(1)?[0];
        match opcode {
            // PROTO, FRAME
            0x80 => {
                let protocol = self.take(1)?[0];
                if !(2..=5).contains(&protocol) {
                    return Err(format!("pickle protocol {protocol} is not one of 2 to 5"));
                }
            }
            0x95 => drop(self.length(8)?),
            // STOP
            b'.' => return self.pop().map(Some),
            // MARK, POP, DUP
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'2' => {
                let top = *self.stack.last().ok_or(UNDERFLOW)?;
                self.stack.push(top);
            }
            // BINPUT, LONG_BINPUT, MEMOIZE
            b'q' => self.memoize(1)?,
            b'r' => self.memoize(4)?,
            0x94 => {
                let key = self.memo.len() as u64;
                let top = *self.stack.last().ok_or(UNDERFLOW)?;
                self.memo.insert(key, top);
            }
            // BINGET, LONG_BINGET
            b'h' => self.recall(1)?,
            b'j' => self.recall(4)?,
            // NONE, NEWTRUE, NEWFALSE
            b'N' => self.push(Value::None),
            0x88 => self.push(Value::Bool(true)),
            0x89 => self.push(Value::Bool(false)),
            // BININT, BININT1, BININT2, LONG1, BINFLOAT
            b'J' => {
                let value = self.number(4)? as u32 as i32;
                self.push(Value::Integer(value.into()));
            }
            b'K' => {
                let value = self.number(1)? as i64;
                self.push(Value::Integer(value));
            }
            b'M' => {
                let value = self.number(2)? as i64;
                self.push(Value::Integer(value));
            }
            0x8a => {
                let length = self.length(1)?;
                let value = signed(self.take(length)?).ok_or("an integer has more than 8 bytes")?;
                self.push(Value::Integer(value));
            }
            b'G' => {
                self.take(8)?;
                self.push(Value::Opaque);
            }
            // SHORT_BINSTRING, SHORT_BINBYTES, BINSTRING, BINBYTES, BINBYTES8, BYTEARRAY8
            b'U' | b'C' => self.string(1, Value::Bytes)?,
            b'T' | b'B' => self.string(4, Value::Bytes)?,
            0x8e | 0x96 => self.string(8, Value::Bytes)?,
            // SHORT_BINUNICODE, BINUNICODE, BINUNICODE8
            0x8c => self.string(1, Value::Text)?,
            b'X' => self.string(4, Value::Text)?,
            0x8d => self.string(8, Value::Text)?,
            // EMPTY_TUPLE, TUPLE1 to TUPLE3, TUPLE
            b')' => self.push(Value::Tuple(vec![])),
            0x85..=0x87 => {
                let items = self.pop_several(usize::from(opcode - 0x84))?;
                self.push(Value::Tuple(items));
            }
            b't' => {
                let items = self.pop_marked()?;
                self.push(Value::Tuple(items));
            }
            // EMPTY_LIST, APPEND, APPENDS
            b']' => self.push(Value::List(vec![])),
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])?;
            }
            b'e' => {
                let items = self.pop_marked()?;
                self.append(items)?;
            }
            // EMPTY_DICT, SETITEM, SETITEMS
            b'}' => self.push(Value::Dict(vec![])),
            b's' => {
                let items = self.pop_several(2)?;
                self.set_items(&items)?;
            }
            b'u' => {
                let items = self.pop_marked()?;
                self.set_items(&items)?;
            }
            // GLOBAL, STACK_GLOBAL, REDUCE, BUILD
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.push(Value::Global(module, name));
            }
            0x93 => {
                let items = self.pop_several(2)?;
                let text = |item: usize| {
                    let bytes = self.bytes(item).ok_or("the name of a function is not a string")?;
                    Ok::<_, String>(String::from_utf8_lossy(&bytes).into_owned())
                };
                let (module, name) = (text(items[0])?, text(items[1])?);
                self.push(Value::Global(module, name));
            }
            b'R' => {
                let items = self.pop_several(2)?;
                let made = self.call(items[0], items[1])?;
                self.push(made);
            }
            b'b' => {
                let state = self.pop()?;
                self.build(state)?;
            }
            other => return Err(format!("the opcode 0x{other:02x} is not supported")),
        }
        Ok(None)
    }

    /// Calls a function and returns its result.
    fn call(&self, function: usize, arguments: usize) -> Result<Value, String> {
        let (Value::Global(module, name), Value::Tuple(arguments)) = (&self.values[function], &self.values[arguments])
        else {
            return Err("the value that is called is not a function".to_string());
        };
        match (module.as_str(), name.as_str(), &arguments[..]) {
            ("_codecs", "encode", &[text, encoding]) => {
                let Value::Text(range) = &self.values[text] else {
                    return Err(format!("the value that is encoded is {}, not a string", self.values[text].kind()));
                };
                let encoding = self.bytes(encoding).unwrap_or_default();
                if !matches!(&encoding[..], b"latin1" | b"latin-1") {
                    return Err(format!("the encoding {:?} is not supported", String::from_utf8_lossy(&encoding)));
                }
                let content = std::str::from_utf8(&self.file[range.clone()]).expect("checked when it was read");
                match content.chars().all(|character| u32::from(character) < 256) {
                    true => Ok(Value::Latin1(range.clone())),
                    false => Err("a string that is encoded as Latin-1 has other characters".to_string()),
                }
            }
            ("numpy", "dtype", &[name, ..]) => {
                let name = self.bytes(name).ok_or("the name of a numpy type is not a string")?;
                Ok(Value::Dtype(String::from_utf8_lossy(&name).into_owned()))
            }
            ("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct", _) => Ok(Value::Array(None)),
            ("numpy.core.multiarray" | "numpy._core.multiarray", "scalar", &[dtype, data]) => {
                Ok(self.scalar(dtype, data))
            }
            // Used by protocol 5.
            ("numpy.core.numeric" | "numpy._core.numeric", "_frombuffer", &[data, dtype, shape, order, ..]) => {
                let fortran = self.bytes(order).as_deref() == Some(b"F");
                self.array(shape, dtype, fortran, data).map(|array| Value::Array(Some(array)))
            }
            _ => Ok(Value::Opaque),
        }
    }

    /// Returns a number of numpy: an integer, or an opaque value.
    fn scalar(&self, dtype: usize, data: usize) -> Value {
        let Value::Dtype(dtype) = &self.values[dtype] else { return Value::Opaque };
        match (IntegerType::parse(dtype), self.bytes(data)) {
            (Some(integer), Some(bytes)) if bytes.len() == integer.size => Value::Integer(integer.decode(&bytes)),
            _ => Value::Opaque,
        }
    }

    /// Sets the state of the object on top of the stack.
    fn build(&mut self, state: usize) -> Result<(), String> {
        let object = *self.stack.last().ok_or(UNDERFLOW)?;
        if let (Value::Dtype(name), Value::Tuple(items)) = (&self.values[object], &self.values[state])
            && items.get(1).and_then(|&order| self.bytes(order)).as_deref() == Some(b">")
        {
            self.values[object] = Value::Dtype(format!(">{}", name.trim_start_matches('>')));
        }
        if let Value::Array(_) = &self.values[object] {
            let Value::Tuple(items) = &self.values[state] else {
                return Err(format!("the state of an array is {}", self.values[state].kind()));
            };
            let &[_, shape, dtype, fortran, data] = &items[..] else {
                return Err(format!("the state of an array has {} items instead of 5", items.len()));
            };
            let fortran = matches!(self.values[fortran], Value::Bool(true) | Value::Integer(1));
            let array = self.array(shape, dtype, fortran, data)?;
            self.values[object] = Value::Array(Some(array));
        }
        // Opaque values remain opaque.
        Ok(())
    }

    fn array(&self, shape: usize, dtype: usize, fortran: bool, data: usize) -> Result<Array, String> {
        let Value::Tuple(sizes) = &self.values[shape] else {
            return Err(format!("the shape of an array is {}", self.values[shape].kind()));
        };
        let size = |&item: &usize| match self.values[item] {
            Value::Integer(size) => usize::try_from(size).map_err(|_| format!("the shape of an array has {size}")),
            ref other => Err(format!("{} in the shape of an array", other.kind())),
        };
        let shape = sizes.iter().map(size).collect::<Result<_, _>>()?;
        let Value::Dtype(dtype) = &self.values[dtype] else {
            return Err(format!("the type of an array is {}", self.values[dtype].kind()));
        };
        if self.bytes(data).is_none() {
            return Err(format!("the data of an array are {}", self.values[data].kind()));
        }
        Ok(Array { shape, dtype: dtype.clone(), fortran, data })
    }

    fn append(&mut self, items: Vec<usize>) -> Result<(), String> {
        let list = *self.stack.last().ok_or(UNDERFLOW)?;
        match &mut self.values[list] {
            Value::List(list) => list.extend(items),
            other => return Err(format!("a value is appended to {}", other.kind())),
        }
        Ok(())
    }

    fn set_items(&mut self, items: &[usize]) -> Result<(), String> {
        if !items.len().is_multiple_of(2) {
            return Err("a key has no value".to_string());
        }
        let dict = *self.stack.last().ok_or(UNDERFLOW)?;
        match &mut self.values[dict] {
            Value::Dict(dict) => dict.extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1]))),
            other => return Err(format!("items of {} are set", other.kind())),
        }
        Ok(())
    }

    fn bytes(&self, value: usize) -> Option<Cow<'a, [u8]>> {
        bytes_of(self.file, &self.values, value)
    }

    fn push(&mut self, value: Value) {
        self.values.push(value);
        self.stack.push(self.values.len() - 1);
    }

    fn pop(&mut self) -> Result<usize, String> {
        // Values below a mark cannot be used until the mark is removed.
        let floor = self.marks.last().copied().unwrap_or(0);
        let popped = if self.stack.len() > floor { self.stack.pop() } else { None };
        popped.ok_or_else(|| UNDERFLOW.to_string())
    }

    fn pop_several(&mut self, count: usize) -> Result<Vec<usize>, String> {
        let mut items = (0..count).map(|_| self.pop()).collect::<Result<Vec<_>, _>>()?;
        items.reverse();
        Ok(items)
    }

    fn pop_marked(&mut self) -> Result<Vec<usize>, String> {
        let height = self.marks.pop().ok_or("there is no mark on the stack")?;
        Ok(self.stack.split_off(height))
    }

    fn memoize(&mut self, width: usize) -> Result<(), String> {
        let key = self.number(width)?;
        let top = *self.stack.last().ok_or(UNDERFLOW)?;
        self.memo.insert(key, top);
        Ok(())
    }

    fn recall(&mut self, width: usize) -> Result<(), String> {
        let key = self.number(width)?;
        let value = *self.memo.get(&key).ok_or_else(|| format!("value {key} is used before it is defined"))?;
        self.stack.push(value);
        Ok(())
    }

    fn string(&mut self, width: usize, make: fn(Range<usize>) -> Value) -> Result<(), String> {
        let length = self.length(width)?;
        let start = self.at;
        let content = self.take(length)?;
        let value = make(start..start + length);
        if matches!(value, Value::Text(_)) && std::str::from_utf8(content).is_err() {
            return Err("a string is not UTF-8".to_string());
        }
        self.push(value);
        Ok(())
    }

    fn line(&mut self) -> Result<String, String> {
        let rest = &self.file[self.at..];
        let length = rest.iter().position(|&byte| byte == b'\n').ok_or_else(|| self.truncated())?;
        self.at += length + 1;
        Ok(String::from_utf8_lossy(&rest[..length]).into_owned())
    }

    /// Reads an unsigned number in little-endian order.
    fn number(&mut self, width: usize) -> Result<u64, String> {
        Ok(self.take(width)?.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    fn length(&mut self, width: usize) -> Result<usize, String> {
        usize::try_from(self.number(width)?).map_err(|_| self.truncated())
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], String> {
        let taken = self.at.checked_add(length).and_then(|end| self.file.get(self.at..end));
        let taken = taken.ok_or_else(|| self.truncated())?;
        self.at += length;
        Ok(taken)
    }

    fn truncated(&self) -> String {
        format!("the file is truncated: it ends at byte {} within this item", self.file.len())
    }
}

const UNDERFLOW: &str = "the stack is empty";

/// Decodes a little-endian number in two's complement.
fn signed(bytes: &[u8]) -> Option<i64> {
    let sign = if bytes.last().is_some_and(|byte| byte & 0x80 != 0) { 0xff } else { 0 };
    let mut all = [sign; 8];
    all.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(i64::from_le_bytes(all))
}

/// A type of integers of numpy.
struct IntegerType {
    /// The size in bytes.
    size: usize,
    is_signed: bool,
    is_big_endian: bool,
}

impl IntegerType {
    /// Parses the name of a type, such as `i8` or `>u2`; returns `None` if it is not a type of integers.
    fn parse(name: &str) -> Option<IntegerType> {
        let plain = name.trim_start_matches(['<', '>', '=', '|']);
        let (is_signed, size) = match plain.split_at_checked(1)? {
            ("i", size) => (true, size),
            ("u", size) => (false, size),
            _ => return None,
        };
        let size = size.parse().ok().filter(|size| [1, 2, 4, 8].contains(size))?;
        Some(IntegerType { size, is_signed, is_big_endian: name.starts_with('>') })
    }

    fn decode(&self, bytes: &[u8]) -> i64 {
        let mut bytes = bytes.to_vec();
        if self.is_big_endian {
            bytes.reverse();
        }
        if !self.is_signed {
            bytes.resize(8, 0);
        }
        signed(&bytes).expect("integers have at most 8 bytes")
    }
}

/// Returns the bytes of a matrix in row-major order, from column-major order.
fn transposed(bytes: &[u8], rows: usize, columns: usize) -> Vec<u8> {
    (0..rows).flat_map(|row| (0..columns).map(move |column| bytes[column * rows + row])).collect()
}

/// Returns the protocol of a pickle of a dictionary that is older than the supported ones.
fn old_protocol(file: &[u8]) -> Option<u8> {
    match file {
        [b'(', b'd', ..] => Some(0),
        [b'}', ..] => Some(1),
        _ => None,
    }
}

/// A writer of a dictionary as Python 2 and its numpy pickled it: protocol 2, with byte strings for text.
pub(crate) struct Writer {
    file: Vec<u8>,
}

impl Writer {
    pub(crate) fn new() -> Writer {
        Writer { file: vec![0x80, 2, b'}', b'('] }
    }

    pub(crate) fn string(&mut self, key: &str, value: &str) {
        self.write_string(key.as_bytes());
        self.write_string(value.as_bytes());
    }

    pub(crate) fn strings(&mut self, key: &str, values: &[String]) {
        self.write_string(key.as_bytes());
        self.file.extend(b"](");
        values.iter().for_each(|value| self.write_string(value.as_bytes()));
        self.file.push(b'e');
    }

    pub(crate) fn integers(&mut self, key: &str, values: impl IntoIterator<Item = i32>) {
        self.write_string(key.as_bytes());
        self.file.extend(b"](");
        values.into_iter().for_each(|value| self.write_integer(value));
        self.file.push(b'e');
    }

    /// Adds a numpy array of bytes; `bytes` has a whole number of rows.
    pub(crate) fn matrix(&mut self, key: &str, columns: i32, bytes: &[u8]) {
        let rows = i32::try_from(bytes.len() / columns as usize).expect("it fits in memory many times over");
        self.write_string(key.as_bytes());
        self.file.extend(b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01");
        self.write_integer(rows);
        self.write_integer(columns);
        self.file.extend(b"\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNN");
        self.write_integer(-1);
        self.write_integer(-1);
        self.file.extend(b"K\x00tb\x89");
        self.write_string(bytes);
        self.file.extend(b"tb");
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.file.extend(b"u.");
        self.file
    }

    fn write_integer(&mut self, value: i32) {
        match u8::try_from(value) {
            Ok(byte) => self.file.extend([b'K', byte]),
            Err(_) => {
                self.file.push(b'J');
                self.file.extend(value.to_le_bytes());
            }
        }
    }

    fn write_string(&mut self, bytes: &[u8]) {
        match u8::try_from(bytes.len()) {
            Ok(length) => self.file.extend([b'U', length]),
            Err(_) => {
                self.file.push(b'T');
                self.file.extend(u32::try_from(bytes.len()).expect("a file of CIFAR is 154 MB").to_le_bytes());
            }
        }
        self.file.extend(bytes);
    }
}
