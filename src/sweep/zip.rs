//! Axes that advance together.

use super::file::File;
use super::schema::{self, Block, Key};
use super::values::{Axis, Item};
use crate::yaml::{Content, Diagnostic, Node, Place, grouped};

/// Settings whose n-th values belong together. A setting with a single value in a block does not take part there.
#[derive(Debug, Clone)]
pub(crate) struct Zip {
    members: Vec<Member>,
}

#[derive(Debug, Clone)]
struct Member {
    place: Place,
    key: &'static Key,
}

impl Zip {
    /// Reads a list of zips, or one zip alone.
    pub(crate) fn read_all(node: &Node, file: &File) -> Result<Vec<Zip>, Diagnostic> {
        let zips = match &node.content {
            Content::List(nodes) if nodes.iter().any(|node| matches!(node.content, Content::List(_))) => {
                nodes.iter().map(Zip::read).collect::<Result<Vec<_>, _>>()?
            }
            // A key of which every line is commented out.
            Content::Nothing => Vec::new(),
            _ => vec![Zip::read(node)?],
        };
        check_repeats(&zips)?;
        for zip in &zips {
            zip.check_axes(file)?;
            zip.check_scopes()?;
            zip.check_lengths(file)?;
        }
        Ok(zips)
    }

    fn read(node: &Node) -> Result<Zip, Diagnostic> {
        let help = "for example `zip: [[ticket.method, ticket.lr]]`";
        let Content::List(nodes) = &node.content else {
            let message = format!("`zip` must be lists of settings, found {}", node.found());
            return Err(Diagnostic::at(node.place, message, help));
        };
        let members = nodes.iter().map(Member::read).collect::<Result<Vec<_>, _>>()?;
        if members.len() < 2 {
            return Err(Diagnostic::at(node.place, "a zip needs at least two axes", help));
        }
        Ok(Zip { members })
    }

    pub(crate) fn joins(&self, axis: &Axis) -> bool {
        !axis.is_single() && self.members.iter().any(|member| member.key == axis.key)
    }

    fn check_axes(&self, file: &File) -> Result<(), Diagnostic> {
        for Member { place, key } in &self.members {
            let fail = |message: String, help: &str| Err(Diagnostic::at(*place, message, help));
            let path = key.path;
            if path == "connect.between" {
                return fail(format!("`{path}` cannot be zipped"), "write one `connect` block for each value");
            }
            if file.given(key).next().is_none() {
                let help = "list its values to zip it, even if they are the defaults";
                return fail(format!("`{path}` is not given in this file"), help);
            }
            if file.given(key).flat_map(Axis::items).any(Item::is_all) {
                let help = "list the levels, as in `1..12`, to zip them";
                return fail(format!("`{path}: all` cannot be zipped"), help);
            }
            if file.given(key).all(Axis::is_single) {
                let help = "give it a list or a range, or take it out of the zip";
                return fail(format!("`{path}` is not an axis: it has one value"), help);
            }
        }
        Ok(())
    }

    /// Returns an error if settings of transfers and of connects are zipped. A chain determines the position of the zip
    /// for its transfers and connects, but a connect has several transfers.
    fn check_scopes(&self) -> Result<(), Diagnostic> {
        let in_block = |block| self.members.iter().find(|member| member.key.block == block);
        match (in_block(Block::Transfer), in_block(Block::Connect)) {
            (Some(transfer), Some(connect)) => {
                let message = format!("`{}` cannot be zipped with `{}`", connect.key.path, transfer.key.path);
                let help = "zip it with settings of the ticket; a connection has several transfers";
                Err(Diagnostic::at(connect.place, message, help))
            }
            _ => Ok(()),
        }
    }

    fn check_lengths(&self, file: &File) -> Result<(), Diagnostic> {
        let lengths = self.members.iter().flat_map(|member| {
            let axes = file.given(member.key).filter(|axis| !axis.is_single());
            axes.map(move |axis| (member, axis.len()))
        });
        let lengths: Vec<_> = lengths.collect();
        let (first, length) = lengths[0];
        match lengths.iter().find(|(_, other)| *other != length) {
            Some((member, other)) => {
                let (one, two) = (first.key.path, member.key.path);
                let (length, other) = (grouped(length), grouped(*other));
                let message = format!("zipped axes differ in length: `{one}` has {length} values, `{two}` has {other}");
                let help = "give both the same number of values in every block";
                Err(Diagnostic::at(member.place, message, help))
            }
            None => Ok(()),
        }
    }
}

impl Member {
    fn read(node: &Node) -> Result<Member, Diagnostic> {
        let Content::Text(name) = &node.content else {
            let message = format!("`zip` must name settings, found {}", node.found());
            return Err(Diagnostic::at(node.place, message, "for example `zip: [[ticket.method, ticket.lr]]`"));
        };
        let key = schema::axis(name).map_err(|(message, help)| Diagnostic::at(node.place, message, help))?;
        Ok(Member { place: node.place, key })
    }
}

fn check_repeats(zips: &[Zip]) -> Result<(), Diagnostic> {
    let members: Vec<_> = zips.iter().flat_map(|zip| &zip.members).collect();
    for (index, member) in members.iter().enumerate() {
        if members[..index].iter().any(|earlier| earlier.key == member.key) {
            let message = format!("`{}` is zipped twice", member.key.path);
            return Err(Diagnostic::at(
                member.place,
                message,
                "name each axis once; a zip can have more than two axes",
            ));
        }
    }
    Ok(())
}
