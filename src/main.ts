import { basename } from 'node:path'
import { run } from './cmd/run.ts'

/** The name we were called by: the executable or the script may be a link named rebuildctl. */
function calledAs(): string {
  const names = [process.argv0, process.argv[1] ?? ''].map((path) =>
    basename(path).replace(/\.(mjs|js|ts)$/, ''),
  )
  return names.find((name) => name === 'rebuildctl' || name === 'rebuilderd-worker') ?? 'rebuilderd'
}

// Files wait for the disk in libuv's pool: four threads, as is usual, keep one another waiting (docs.libuv.org, threadpool).
process.env['UV_THREADPOOL_SIZE'] ??= '16'

process.exitCode = 1 // for a wait that has no end; `run` ends the process with the code that is due
void run(calledAs(), process.argv.slice(2))
