/** Every endpoint there is: what the server mounts, clients call and OpenAPI prints. */
import * as backup from './backup.ts'
import * as builds from './builds.ts'
import type { Endpoint } from './endpoint.ts'
import * as gates from './gates.ts'
import * as history from './history.ts'
import * as meta from './meta.ts'
import * as packages from './packages.ts'
import * as queue from './queue.ts'
import * as sync from './sync.ts'
import * as v0 from './v0.ts'
import * as workers from './workers.ts'

function isEndpoint(item: unknown): item is Endpoint {
  return typeof item === 'object' && item !== null && 'method' in item && 'path' in item && 'caller' in item
}

export const endpoints: readonly Endpoint[] = [
  packages,
  builds,
  queue,
  workers,
  meta,
  history,
  gates,
  sync,
  v0,
  backup,
]
  .flatMap((module) => Object.values(module) as unknown[])
  .flatMap((item) => (Array.isArray(item) ? item : [item]) as unknown[])
  .filter(isEndpoint)
