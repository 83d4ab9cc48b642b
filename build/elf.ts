/**
 * Two changes to a 64-bit little-endian ELF executable (refspecs.linuxfoundation.org/elf/gabi4+), made here so that
 * they give the same bytes on every machine and for every architecture.
 */

/** The executable without symbols, debugging data and section headers: only what the kernel and ld.so read. */
export function stripped(file: Uint8Array): Buffer {
  const elf = copyOf(file)
  const end = Math.max(...segmentsOf(elf).map((segment) => segment.offset + segment.fileSize))
  elf.writeBigUInt64LE(0n, 40) // e_shoff
  elf.fill(0, 60, 64) // e_shnum, e_shstrndx
  return elf.subarray(0, end)
}

/**
 * The same executable without its need for libatomic.so.1, which a small Debian does not have. Node takes one
 * function from it, `__atomic_compare_exchange`, and calls it for 8 bytes only; that one goes into the unused end
 * of the code segment, and its entry in the procedure linkage table jumps there.
 * @throws Error where the executable is made differently from what we know
 */
export function withoutLibatomic(file: Uint8Array): Buffer {
  const elf = copyOf(file)
  const library = 'libatomic.so.1'
  if (!neededOf(elf).some(({ name }) => name === library)) return elf
  const machine = machineOf(elf)
  const version = versionsOf(elf).find(({ name }) => name === library)
  const slots = slotsOf(elf).filter(({ versionIndex }) => version?.indexes.includes(versionIndex))
  const [slot] = slots
  if (version === undefined || slot === undefined || slots.length > 1 || slot.symbol !== onlyFunction) {
    throw new Error(`takes something else from ${library}: ${slots.map(({ symbol }) => symbol).join(' ')}`)
  }
  const entry = linkageEntry(elf, machine, slot.got)
  machine.jump(elf, entry, placed(elf, machine.compareExchange))
  rebind(elf, slot)
  dropNeeded(elf, library)
  dropVersion(elf, version)
  return elf
}

/** Names of the libraries that ld.so has to find. */
export function librariesOf(file: Uint8Array): string[] {
  return neededOf(copyOf(file)).map(({ name }) => name)
}

const onlyFunction = '__atomic_compare_exchange'

type Machine = {
  /** bool (size, object, expected, desired, order, order) for a size of 8; another size stops the program. */
  compareExchange: Buffer
  /** Whether the linkage entry at `offset`, mapped at `address`, reads the pointer at `got`. */
  reads: (elf: Buffer, offset: number, address: number, got: number) => boolean
  jump: (elf: Buffer, from: Place, to: Place) => void
}
type Place = { offset: number; address: number }

const x64: Machine = {
  // cmp $8,%rdi; jne 1f; mov (%rdx),%rax; mov (%rcx),%rcx; lock cmpxchg %rcx,(%rsi); mov %rax,(%rdx); sete %al; ret; 1: ud2
  compareExchange: Buffer.from('4883ff087512488b02488b09f0480fb10e4889020f94c0c30f0b', 'hex'),
  reads: (elf, offset, address, got) =>
    elf.readUInt16BE(offset) === 0xff25 && address + 6 + elf.readInt32LE(offset + 2) === got,
  jump(elf, from, to) {
    elf.writeUInt8(0xe9, from.offset)
    elf.writeInt32LE(to.address - (from.address + 5), from.offset + 1)
  },
}

const arm64: Machine = {
  // cmp x0,#8; b.ne 3f; ldr x9,[x2]; ldr x10,[x3]; 1: ldaxr x11,[x1]; cmp x11,x9; b.ne 2f; stlxr w12,x10,[x1];
  // cbnz w12,1b; mov w0,#1; ret; 2: clrex; str x11,[x2]; mov w0,#0; ret; 3: brk #1
  compareExchange: Buffer.from(
    '1f2000f1c1010054490040f96a0040f92bfc5fc87f0109eba10000542afc0cc8' +
      '8cffff3520008052c0035fd65f3f03d54b0000f900008052c0035fd6200020d4',
    'hex',
  ),
  reads: (elf, offset, address, got) =>
    isAdrp(elf.readUInt32LE(offset)) &&
    pageOf(address) + adrpPages(elf.readUInt32LE(offset)) * 4096 === pageOf(got) &&
    loadOffset(elf.readUInt32LE(offset + 4)) === got % 4096,
  jump(elf, from, to) {
    elf.writeUInt32LE((0x14000000 | (((to.address - from.address) >> 2) & 0x3ffffff)) >>> 0, from.offset) // b
  },
}

const pageOf = (address: number) => address - (address % 4096)
const isAdrp = (word: number) => (word & 0x9f00001f) >>> 0 === 0x90000010 // adrp x16, …
const adrpPages = (word: number) => (((word << 8) >> 13) << 2) | ((word >>> 29) & 3)
const loadOffset = (word: number) =>
  (word & 0xffc003ff) >>> 0 === 0xf9400211 ? ((word >>> 10) & 0xfff) * 8 : -1 // ldr x17, [x16, …]

function machineOf(elf: Buffer): Machine {
  const known: Record<number, Machine> = { 62: x64, 183: arm64 }
  const machine = known[elf.readUInt16LE(18)]
  if (machine === undefined) throw new Error('is for an architecture that we do not know')
  return machine
}

function copyOf(file: Uint8Array): Buffer {
  const elf = Buffer.from(file)
  if (elf.length < 64 || elf.toString('latin1', 0, 6) !== '\x7fELF\x02\x01')
    throw new Error('is no 64-bit ELF file')
  return elf
}

type Segment = Place & { at: number; type: number; flags: number; fileSize: number; memorySize: number }
const loaded = 1
const dynamic = 2
const executable = 1

function segmentsOf(elf: Buffer): Segment[] {
  const [start, size, count] = [number64(elf, 32), elf.readUInt16LE(54), elf.readUInt16LE(56)]
  return Array.from({ length: count }, (_, index) => start + index * size).map((at) => ({
    at,
    type: elf.readUInt32LE(at),
    flags: elf.readUInt32LE(at + 4),
    offset: number64(elf, at + 8),
    address: number64(elf, at + 16),
    fileSize: number64(elf, at + 32),
    memorySize: number64(elf, at + 40),
  }))
}

/** Puts code into the unused end of the code segment's last page, which is mapped anyway. */
function placed(elf: Buffer, code: Buffer): Place {
  const segments = segmentsOf(elf)
  const text = segments.find(({ type, flags }) => type === loaded && (flags & executable) !== 0)
  if (text === undefined) throw new Error('has no code segment')
  const start = Math.ceil((text.offset + text.fileSize) / 64) * 64
  const next = Math.min(
    ...segments.map(({ offset }) => offset).filter((offset) => offset >= start),
    elf.length,
  )
  const hole = elf.subarray(start, start + code.length)
  if (start + code.length > next || hole.some((byte) => byte !== 0))
    throw new Error('has no room after its code')
  code.copy(elf, start)
  const size = BigInt(start + code.length - text.offset)
  elf.writeBigUInt64LE(size, text.at + 32)
  elf.writeBigUInt64LE(size, text.at + 40)
  return { offset: start, address: text.address + start - text.offset }
}

const tags = { needed: 1, jumpRelocationsSize: 2, strings: 5, symbols: 6, relocations: 7, relocationsSize: 8, jumpRelocations: 23, versionOfSymbol: 0x6ffffff0, versions: 0x6ffffffe, versionCount: 0x6fffffff } // prettier-ignore
type Entry = { at: number; tag: number; value: number }

function dynamicOf(elf: Buffer): Entry[] {
  const segment = segmentsOf(elf).find(({ type }) => type === dynamic)
  if (segment === undefined) throw new Error('is not dynamically linked')
  const entries: Entry[] = []
  for (let at = segment.offset; at < segment.offset + segment.fileSize; at += 16) {
    const tag = number64(elf, at)
    if (tag === 0) break
    entries.push({ at, tag, value: number64(elf, at + 8) })
  }
  return entries
}

function entryOf(elf: Buffer, tag: number): Entry {
  const entry = dynamicOf(elf).find((entry) => entry.tag === tag)
  if (entry === undefined) throw new Error(`has no dynamic entry ${tag}`)
  return entry
}

/** Where the file holds what is mapped at the address that a dynamic entry gives. */
function tableAt(elf: Buffer, tag: number): number {
  return offsetOf(elf, entryOf(elf, tag).value)
}

function offsetOf(elf: Buffer, address: number): number {
  const holds = (segment: Segment) =>
    segment.type === loaded && address >= segment.address && address < segment.address + segment.fileSize
  const segment = segmentsOf(elf).find(holds)
  if (segment === undefined) throw new Error(`maps nothing at ${address.toString(16)}`)
  return segment.offset + address - segment.address
}

function stringAt(elf: Buffer, index: number): string {
  const start = tableAt(elf, tags.strings) + index
  return elf.toString('latin1', start, elf.indexOf(0, start))
}

function neededOf(elf: Buffer): (Entry & { name: string })[] {
  return dynamicOf(elf)
    .filter(({ tag }) => tag === tags.needed)
    .map((entry) => ({ ...entry, name: stringAt(elf, entry.value) }))
}

/** Closes the gap, because ld.so reads the dynamic section up to its first empty entry. */
function dropNeeded(elf: Buffer, name: string): void {
  const entries = dynamicOf(elf)
  const gone = neededOf(elf).find((entry) => entry.name === name)
  const last = entries.at(-1)
  if (gone === undefined || last === undefined) return
  elf.copyWithin(gone.at, gone.at + 16, last.at + 16)
  elf.fill(0, last.at, last.at + 16)
}

type Version = { at: number; previous: number | null; next: number; name: string; indexes: number[] }

/** Which versions of which library's symbols the executable asks for. */
function versionsOf(elf: Buffer): Version[] {
  const found: Version[] = []
  let at = tableAt(elf, tags.versions)
  for (let left = entryOf(elf, tags.versionCount).value; left > 0; left--) {
    const indexes: number[] = []
    let auxiliary = at + elf.readUInt32LE(at + 8)
    for (let count = elf.readUInt16LE(at + 2); count > 0; count--) {
      indexes.push(elf.readUInt16LE(auxiliary + 6))
      auxiliary += elf.readUInt32LE(auxiliary + 12)
    }
    const next = elf.readUInt32LE(at + 12)
    found.push({
      at,
      previous: found.at(-1)?.at ?? null,
      next,
      name: stringAt(elf, elf.readUInt32LE(at + 4)),
      indexes,
    })
    at += next
  }
  return found
}

function dropVersion(elf: Buffer, { at, previous, next }: Version): void {
  const [first, count] = [entryOf(elf, tags.versions), entryOf(elf, tags.versionCount)]
  if (previous === null) elf.writeBigUInt64LE(BigInt(first.value + next), first.at + 8)
  else elf.writeUInt32LE(next === 0 ? 0 : at - previous + next, previous + 12)
  elf.writeBigUInt64LE(BigInt(count.value - 1), count.at + 8)
}

type Slot = { at: number; got: number; symbol: string; versionIndex: number }

/** The functions that ld.so binds, with the place of the relocation and of the pointer that it sets. */
function slotsOf(elf: Buffer): Slot[] {
  const size = entryOf(elf, tags.jumpRelocationsSize).value
  const start = tableAt(elf, tags.jumpRelocations)
  const [symbols, versions] = [tableAt(elf, tags.symbols), tableAt(elf, tags.versionOfSymbol)]
  return Array.from({ length: size / 24 }, (_, index) => start + index * 24).map((at) => {
    const symbol = elf.readUInt32LE(at + 12)
    return {
      at,
      got: number64(elf, at),
      symbol: stringAt(elf, elf.readUInt32LE(symbols + symbol * 24)),
      versionIndex: elf.readUInt16LE(versions + symbol * 2),
    }
  })
}

/** Lets a relocation bind some other function, one that is there: nobody reads that pointer any more. */
function rebind(elf: Buffer, slot: Slot): void {
  const other = slotsOf(elf).find(({ symbol }) => symbol === 'abort')
  if (other === undefined) throw new Error('does not call abort')
  elf.writeUInt32LE(elf.readUInt32LE(other.at + 12), slot.at + 12)
}

/** The entry of the procedure linkage table that jumps where `got` points. */
function linkageEntry(elf: Buffer, machine: Machine, got: number): Place {
  for (const { type, flags, offset, address, fileSize } of segmentsOf(elf)) {
    if (type !== loaded || (flags & executable) === 0) continue
    const end = Math.min(fileSize, 1 << 20) // the table is near the start
    for (let index = 0; index + 16 <= end; index += 16) {
      if (machine.reads(elf, offset + index, address + index, got))
        return { offset: offset + index, address: address + index }
    }
  }
  throw new Error('has no linkage entry for the function')
}

function number64(elf: Buffer, at: number): number {
  return Number(elf.readBigUInt64LE(at))
}
