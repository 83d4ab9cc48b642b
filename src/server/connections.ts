/**
 * How many connections there are at once. Where there are too many, the one that has been idle for longest is closed
 * for a new one; where none is idle, workers and administrators are served all the same, up to a bound of their own,
 * and others are told to come back.
 */
import { readFileSync } from 'node:fs'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { networkOf } from './callers.ts'

/** Milliseconds without a request after which a connection may be closed for another: one that is new is about to ask. */
const grace = 1000
/** Seconds after which those who are turned away may try again. */
const comeBack = 10
/** Files that a server opens beside its connections: database, logs, threads. */
const otherFiles = 256

type Guest = { network: string; requests: number; idleSince: number; isOneTooMany: boolean }

/** Whether a request is served; one that is not has been answered. */
type Admission = (incoming: IncomingMessage, outgoing: ServerResponse) => boolean

/**
 * Bounds the connections of a server.
 * @param most connections at once; a quarter more for those who show a key of a worker or a cookie
 * @param isOpen one address may have any number: behind a proxy that does not tell whom it speaks for all have one
 * @param now milliseconds that only go on
 */
export function boundConnections(
  server: Server,
  most: number,
  isOpen: (network: string) => boolean,
  now: () => number = () => performance.now(),
): Admission {
  const guests = new Map<Socket, Guest>()
  const idle = new Set<Socket>() // the longest idle first
  const ofNetwork = new Map<string, number>()
  const share = Math.ceil(most / 2)
  const limit = most + Math.ceil(most / 4) // beyond that a connection is closed without a word

  const isFull = ({ network }: Guest): boolean =>
    guests.size > most || (!isOpen(network) && (ofNetwork.get(network) ?? 0) > share)
  /** Closes the longest idle connection, of the same network where that has too many; false: there is none. */
  const makeRoom = (newcomer: Socket, { network }: Guest): boolean => {
    const isCrowd = guests.size > most
    const latest = now() - grace
    for (const socket of idle) {
      const guest = guests.get(socket)
      if (guest === undefined || socket === newcomer) continue
      if (guest.idleSince > latest) return false
      if (!isCrowd && guest.network !== network) continue
      leave(socket, guest)
      socket.destroy()
      return true
    }
    return false
  }
  const leave = (socket: Socket, guest: Guest): void => {
    if (!guests.delete(socket)) return
    idle.delete(socket)
    const left = (ofNetwork.get(guest.network) ?? 1) - 1
    if (left === 0) ofNetwork.delete(guest.network)
    else ofNetwork.set(guest.network, left)
  }
  server.on('connection', (socket: Socket) => {
    const network = networkOf(socket.remoteAddress ?? '')
    const guest = { network, requests: 0, idleSince: now(), isOneTooMany: false }
    guests.set(socket, guest)
    idle.add(socket)
    ofNetwork.set(network, (ofNetwork.get(network) ?? 0) + 1)
    socket.once('close', () => leave(socket, guest))
    while (isFull(guest)) if (!makeRoom(socket, guest)) break
    guest.isOneTooMany = isFull(guest)
    if (guests.size > limit) socket.destroy()
  })
  return (incoming, outgoing) => {
    const { socket, headers } = incoming
    const guest = guests.get(socket)
    if (guest === undefined) return true // it is being closed
    guest.requests++
    idle.delete(socket)
    outgoing.once('close', () => {
      if (--guest.requests > 0 || !guests.has(socket)) return
      guest.idleSince = now()
      idle.add(socket)
    })
    guest.isOneTooMany &&= isFull(guest) && !makeRoom(socket, guest)
    const isKnown = headers['x-worker-key'] !== undefined || headers['x-auth-cookie'] !== undefined
    if (!guest.isOneTooMany || isKnown) return true
    outgoing
      .writeHead(503, {
        'content-type': 'text/plain; charset=utf-8',
        'retry-after': String(comeBack),
        'access-control-allow-origin': '*',
        connection: 'close',
      })
      .end(`too many connections at once; try again in ${comeBack} seconds`)
    return false
  }
}

/** As many connections as are wanted, or as this process may have open beside its files. */
export function possibleConnections(wanted: number, limits = ownLimits()): number {
  const [, files] = /^Max open files\s+(\d+)/m.exec(limits) ?? []
  if (files === undefined) return wanted // unlimited, or not told
  return Math.max(1, Math.min(wanted, Math.floor(((Number(files) - otherFiles) * 4) / 5)))
}

/** As Linux tells them (proc_pid_limits(5)). */
function ownLimits(): string {
  try {
    return readFileSync('/proc/self/limits', 'utf8')
  } catch {
    return ''
  }
}
