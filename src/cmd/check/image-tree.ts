import { Complaint } from '../../errors.ts'
import type { TarHeader } from '../../tar-reader.ts'
import { followed, partsOf } from './inside.ts'

/** What is known of one place of an image: a folder, a link, or a file whose content is kept somewhere. */
type Place = {
  children: Map<string, Place> | null
  target: string | null
  /** Where the content is kept. */
  content: string | null
}

/** The files of an image that are kept, layer upon layer. */
export type ImageTree = {
  /** Begins the next layer; what it hides is hidden at once, what it adds is there with `settle`. */
  layer: () => ImageLayer
  /** Where the content of a file is kept, links followed; null where there is none. */
  contentOf: (path: string) => string | null
  /** The names in a folder, links followed. */
  namesIn: (path: string) => string[]
}

export type ImageLayer = {
  /** Tells of any member of the layer: what it takes the place of is gone. */
  see: (header: TarHeader) => void
  /** Keeps a file. */
  add: (path: string, content: string) => void
  /** The end of the layer. */
  settle: () => void
}

/** Links of an image; the largest have some ten thousand. */
const mostLinks = 200_000
const longestPath = 4096
const whiteout = '.wh.'
const opaque = '.wh..wh..opq'

/**
 * Layers as they lie upon each other (github.com/opencontainers/image-spec/blob/main/layer.md): `.wh.NAME` hides what
 * lower layers have there, `.wh..wh..opq` all that they have in its folder.
 * @param what names the image in complaints
 */
export function openImageTree(what: string): ImageTree {
  const root = aFolder()
  let links = 0
  const reach = (way: readonly string[]): Place | undefined => {
    let place: Place | undefined = root
    for (const name of way) place = place?.children?.get(name)
    return place
  }
  const wayTo = (path: string): string[] => {
    const steps = followed(path)
    let step = steps.next()
    while (step.done !== true) step = steps.next(reach(step.value)?.target ?? null)
    return step.value
  }
  const remove = (way: readonly string[]): void =>
    void reach(way.slice(0, -1))?.children?.delete(way.at(-1) ?? '')
  const put = (path: string, place: Place): void => {
    const parts = partsOf(path)
    const name = parts.pop()
    if (name === undefined) return
    let folder = root
    for (const part of wayTo(parts.join('/'))) {
      const known = folder.children?.get(part)
      const next = known?.children == null ? aFolder() : known
      folder.children?.set(part, next)
      folder = next
    }
    folder.children?.set(name, place)
  }
  /** The way to a member itself: only the links before it are followed. */
  const ownWay = (parts: readonly string[]): string[] => {
    const name = parts.at(-1)
    return name === undefined ? [] : [...wayTo(parts.slice(0, -1).join('/')), name]
  }
  return {
    layer() {
      const added: { path: string; place: Place }[] = []
      return {
        see({ name: given, kind, target }) {
          const parts = insideParts(given, what)
          const name = parts.at(-1)
          if (name === undefined) return
          const way = ownWay(parts)
          if (name === opaque) reach(way.slice(0, -1))?.children?.clear()
          else if (name.startsWith(`${whiteout}${whiteout}`)) return
          else if (name.startsWith(whiteout)) remove([...way.slice(0, -1), name.slice(whiteout.length)])
          else if (kind !== 'folder' || reach(way)?.children === null) remove(way)
          if (kind !== 'link') return
          if (++links > mostLinks) throw new Complaint(`${what} has more than ${mostLinks} links`)
          if (target.length > longestPath) throw new Complaint(`${what} has a link that is too long`)
          added.push({ path: parts.join('/'), place: { children: null, target, content: null } })
        },
        add(path, content) {
          const parts = insideParts(path, what)
          added.push({ path: parts.join('/'), place: { children: null, target: null, content } })
        },
        settle() {
          for (const { path, place } of added) put(path, place)
        },
      }
    },
    contentOf: (path) => reach(wayTo(path))?.content ?? null,
    namesIn: (path) => [...(reach(wayTo(path))?.children?.keys() ?? [])].sort(),
  }
}

function aFolder(): Place {
  return { children: new Map(), target: null, content: null }
}

/** @throws Complaint where a name leads out of its archive, or is none */
export function insideParts(name: string, what: string): string[] {
  const parts = partsOf(name)
  if (name.length > longestPath || name.includes('\0') || parts.includes('..')) {
    throw new Complaint(`${what} has a name that leads out of it: ${JSON.stringify(name.slice(0, 200))}`)
  }
  return parts
}
