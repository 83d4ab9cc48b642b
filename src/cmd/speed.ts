import { setFlagsFromString } from 'node:v8'

/**
 * Lets the runtime take more memory for less time. The executable is told to be sparing (build.mjs), as servers and
 * workers run for months; what has done its work in a second need not be tidied up again and again meanwhile.
 */
export function preferSpeed(): void {
  setFlagsFromString('--no-optimize-for-size')
}
