//! Columns of equal length, as a Parquet file.

use std::sync::Arc;

use parquet::basic::{LogicalType, Repetition, TimeUnit, Type as Physical};
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::errors::Result;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::Type;

/// The number of rows in a group, which readers load at once.
const GROUP: usize = 1 << 20;

/// A table, column by column. Any value may be missing.
#[derive(Default)]
pub(super) struct Frame {
    columns: Vec<(String, Column)>,
}

pub(super) enum Column {
    Text(Vec<Option<String>>),
    Whole(Vec<Option<i32>>),
    /// Whole numbers of up to 64 bits, such as seeds.
    Large(Vec<Option<u64>>),
    Real(Vec<Option<f64>>),
    Single(Vec<Option<f32>>),
    /// Milliseconds since 1970, UTC.
    Time(Vec<Option<i64>>),
}

impl Frame {
    pub(super) fn add(&mut self, name: &str, column: Column) {
        self.columns.push((name.to_string(), column));
    }

    /// Returns the bytes of the file. Writing to memory cannot fail.
    pub(super) fn render(&self) -> Vec<u8> {
        self.write().expect("columns of equal length, written to memory")
    }

    fn write(&self) -> Result<Vec<u8>> {
        let fields = self.columns.iter().map(|(name, column)| column.field(name)).collect::<Result<_>>()?;
        let schema = Arc::new(Type::group_type_builder("winsign").with_fields(fields).build()?);
        let properties = WriterProperties::builder()
            .set_created_by(concat!("winsign ", env!("CARGO_PKG_VERSION")).to_string())
            .build();
        let mut bytes = Vec::new();
        let mut writer = SerializedFileWriter::new(&mut bytes, schema, Arc::new(properties))?;
        let length = self.columns.first().map_or(0, |(_, column)| column.len());
        let mut start = 0;
        while start < length {
            let end = (start + GROUP).min(length);
            let mut group = writer.next_row_group()?;
            for (_, column) in &self.columns {
                let mut writer = group.next_column()?.expect("a writer for each column");
                column.write(writer.untyped(), start..end)?;
                writer.close()?;
            }
            group.close()?;
            start = end;
        }
        writer.close()?;
        Ok(bytes)
    }
}

impl Column {
    fn len(&self) -> usize {
        match self {
            Column::Text(values) => values.len(),
            Column::Whole(values) => values.len(),
            Column::Large(values) => values.len(),
            Column::Real(values) => values.len(),
            Column::Single(values) => values.len(),
            Column::Time(values) => values.len(),
        }
    }

    fn field(&self, name: &str) -> Result<Arc<Type>> {
        let unsigned = LogicalType::integer(64, false);
        let time = LogicalType::timestamp(true, TimeUnit::MILLIS);
        let (physical, logical) = match self {
            Column::Text(_) => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
            Column::Whole(_) => (Physical::INT32, None),
            Column::Large(_) => (Physical::INT64, Some(unsigned)),
            Column::Real(_) => (Physical::DOUBLE, None),
            Column::Single(_) => (Physical::FLOAT, None),
            Column::Time(_) => (Physical::INT64, Some(time)),
        };
        let field = Type::primitive_type_builder(name, physical);
        Ok(Arc::new(field.with_repetition(Repetition::OPTIONAL).with_logical_type(logical).build()?))
    }

    fn write(&self, writer: &mut ColumnWriter, rows: std::ops::Range<usize>) -> Result<()> {
        /// Returns the values that exist, and for each row 1 if it has a value, otherwise 0.
        fn split<T, U>(values: &[Option<T>], convert: impl Fn(&T) -> U) -> (Vec<U>, Vec<i16>) {
            let levels = values.iter().map(|value| i16::from(value.is_some())).collect();
            (values.iter().flatten().map(convert).collect(), levels)
        }
        match (self, writer) {
            (Column::Text(values), ColumnWriter::ByteArrayColumnWriter(writer)) => {
                let (values, levels) = split(&values[rows], |text| ByteArray::from(text.as_str()));
                writer.write_batch(&values, Some(&levels), None)?;
            }
            (Column::Whole(values), ColumnWriter::Int32ColumnWriter(writer)) => {
                let (values, levels) = split(&values[rows], |value| *value);
                writer.write_batch(&values, Some(&levels), None)?;
            }
            (Column::Large(values), ColumnWriter::Int64ColumnWriter(writer)) => {
                // The logical type interprets the bits as an unsigned number.
                let (values, levels) = split(&values[rows], |value| *value as i64);
                writer.write_batch(&values, Some(&levels), None)?;
            }
            (Column::Time(values), ColumnWriter::Int64ColumnWriter(writer)) => {
                let (values, levels) = split(&values[rows], |value| *value);
                writer.write_batch(&values, Some(&levels), None)?;
            }
            (Column::Real(values), ColumnWriter::DoubleColumnWriter(writer)) => {
                let (values, levels) = split(&values[rows], |value| *value);
                writer.write_batch(&values, Some(&levels), None)?;
            }
            (Column::Single(values), ColumnWriter::FloatColumnWriter(writer)) => {
                let (values, levels) = split(&values[rows], |value| *value);
                writer.write_batch(&values, Some(&levels), None)?;
            }
            _ => unreachable!("the schema is made of the columns"),
        }
        Ok(())
    }
}
