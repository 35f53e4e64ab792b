//! An assembler for classic BPF: labels, and jumps as long as they need to be.
//!
//! A conditional jump of classic BPF reaches 255 instructions, an unconditional one any distance.
//! A condition whose target is further away therefore jumps to a `ja` right behind it. Which
//! jumps those are depends on where everything lies, which depends on those jumps: the layout
//! starts with all of them short and grows until nothing changes.

use libc::sock_filter;

/// Longest program that the kernel takes.
pub(crate) const MAX_PROGRAM: usize = 4096;

/// A place in the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Label(usize);

/// What a conditional jump asks about the accumulator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum If {
    /// It equals the constant.
    Eq(u32),
    /// It is greater than the constant.
    Greater(u32),
    /// It is the constant or greater.
    AtLeast(u32),
    /// It has a bit of the constant.
    AnyOf(u32),
    /// It is the index register or greater.
    AtLeastX,
}

impl If {
    fn encode(self) -> (u16, u32) {
        match self {
            Self::Eq(k) => (0x15, k),
            Self::Greater(k) => (0x25, k),
            Self::AtLeast(k) => (0x35, k),
            Self::AnyOf(k) => (0x45, k),
            Self::AtLeastX => (0x3d, 0),
        }
    }
}

/// Every other instruction, by its meaning: A is the accumulator, X the index register, M the
/// scratch memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub(crate) enum Op {
    /// `A = k`
    Set = 0x00,
    /// `A = 32 bits at k`
    Load32 = 0x20,
    /// `A = 16 bits at k`
    Load16 = 0x28,
    /// `A = 32 bits at X + k`
    Load32X = 0x40,
    /// `A = 16 bits at X + k`
    Load16X = 0x48,
    /// `A = 8 bits at X + k`
    Load8X = 0x50,
    /// `A = M[k]`
    Recall = 0x60,
    /// `A = length of the frame`
    Length = 0x80,
    /// `X = k`
    SetX = 0x01,
    /// `X = M[k]`
    RecallX = 0x61,
    /// `M[k] = A`
    Store = 0x02,
    /// `M[k] = X`
    StoreX = 0x03,
    /// `A += k`
    Add = 0x04,
    /// `A += X`
    AddX = 0x0c,
    /// `A -= k`
    Sub = 0x14,
    /// `A |= k`
    Or = 0x44,
    /// `A |= X`
    OrX = 0x4c,
    /// `A &= k`
    And = 0x54,
    /// `A <<= k`
    ShiftLeft = 0x64,
    /// `X = A`
    ToX = 0x07,
    /// `A = X`
    FromX = 0x87,
    /// Take k bytes of the frame; 0 refuses it
    Return = 0x06,
}

const JUMP_ALWAYS: u16 = 0x05;

enum Item {
    Plain(Op, u32),
    Branch { test: If, yes: Label, no: Label, far_yes: bool, far_no: bool },
    Goto(Label),
    Mark(Label),
}

impl Item {
    fn len(&self) -> usize {
        match self {
            Self::Plain(..) | Self::Goto(_) => 1,
            Self::Branch { far_yes, far_no, .. } => {
                1 + usize::from(*far_yes) + usize::from(*far_no)
            }
            Self::Mark(_) => 0,
        }
    }
}

/// A program in the making. All jumps go forward.
#[derive(Default)]
pub(crate) struct Assembler {
    items: Vec<Item>,
    labels: usize,
}

impl Assembler {
    /// A label to be marked later.
    pub(crate) fn label(&mut self) -> Label {
        self.labels += 1;
        Label(self.labels - 1)
    }

    /// Puts a label here.
    pub(crate) fn mark(&mut self, label: Label) {
        self.items.push(Item::Mark(label));
    }

    pub(crate) fn op(&mut self, op: Op, k: u32) {
        self.items.push(Item::Plain(op, k));
    }

    pub(crate) fn branch(&mut self, test: If, yes: Label, no: Label) {
        self.items.push(Item::Branch { test, yes, no, far_yes: false, far_no: false });
    }

    /// Goes on when the test holds, jumps to `no` otherwise.
    pub(crate) fn require(&mut self, test: If, no: Label) {
        let yes = self.label();
        self.branch(test, yes, no);
        self.mark(yes);
    }

    /// Jumps to `yes` when the test holds, goes on otherwise.
    pub(crate) fn unless(&mut self, test: If, yes: Label) {
        let no = self.label();
        self.branch(test, yes, no);
        self.mark(no);
    }

    pub(crate) fn goto(&mut self, label: Label) {
        self.items.push(Item::Goto(label));
    }

    /// The finished program, or how long it would be if that is more than the kernel takes.
    pub(crate) fn assemble(mut self) -> Result<Vec<sock_filter>, usize> {
        let places = self.lay_out();
        let len = self.items.iter().map(Item::len).sum();
        if len > MAX_PROGRAM {
            return Err(len);
        }
        let mut program = Vec::with_capacity(len);
        for item in &self.items {
            let next = program.len() + 1;
            match *item {
                Item::Plain(op, k) => {
                    program.push(sock_filter { code: op as u16, jt: 0, jf: 0, k })
                }
                Item::Goto(label) => program.push(always(places[label.0] - next)),
                Item::Branch { test, yes, no, far_yes, far_no } => {
                    let (code, k) = test.encode();
                    // Far targets are reached through the `ja`s behind: first yes, then no.
                    let jt = if far_yes { 0 } else { places[yes.0] - next };
                    let jf = if far_no { usize::from(far_yes) } else { places[no.0] - next };
                    program.push(sock_filter { code, jt: jt as u8, jf: jf as u8, k });
                    for (far, label) in [(far_yes, yes), (far_no, no)] {
                        if far {
                            program.push(always(places[label.0] - program.len() - 1));
                        }
                    }
                }
                Item::Mark(_) => {}
            }
        }
        Ok(program)
    }

    /// Decides which jumps are far; gives the place of every label.
    fn lay_out(&mut self) -> Vec<usize> {
        let mut places = vec![0; self.labels];
        loop {
            let mut at = 0;
            for item in &self.items {
                if let Item::Mark(label) = item {
                    places[label.0] = at;
                }
                at += item.len();
            }
            let (mut at, mut grown) = (0, false);
            for item in &mut self.items {
                let len = item.len();
                if let Item::Branch { yes, no, far_yes, far_no, .. } = item {
                    for (far, label) in [(far_yes, yes), (far_no, no)] {
                        if !*far && places[label.0] - (at + 1) > 255 {
                            *far = true;
                            grown = true;
                        }
                    }
                }
                at += len;
            }
            if !grown {
                return places;
            }
        }
    }
}

fn always(distance: usize) -> sock_filter {
    sock_filter { code: JUMP_ALWAYS, jt: 0, jf: 0, k: distance as u32 }
}
