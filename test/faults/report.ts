/** What a fault run found: what was counted, and every loss in words. A run without losses is a good one. */
export type FaultReport = { name: string; counts: Record<string, number>; losses: string[]; skipped?: string }

/** How often something is broken: `least` times however long that takes, and up to `most` times in the seconds given. */
export type Goal = { least: number; most: number; seconds: number }

/** Tells whether a run goes on after so many times; its seconds count from now. */
export function paced({ least, most, seconds }: Goal): (done: number) => boolean {
  const end = performance.now() + seconds * 1000
  return (done) => done < least || (done < most && performance.now() < end)
}

type FaultScale = { kills: Goal; cuts: Goal; reportCuts: Goal; workerKills: Goal }
const exactly = (count: number): Goal => ({ least: count, most: count, seconds: 0 })
/** About five minutes on two processors that have nothing else to do. */
export const longRun: FaultScale = {
  kills: { least: 100, most: 150, seconds: 150 },
  cuts: { least: 200, most: 500, seconds: 30 },
  reportCuts: { least: 200, most: 300, seconds: 40 },
  workerKills: { least: 44, most: 110, seconds: 150 },
}
export const shortRun: FaultScale = {
  kills: exactly(3),
  cuts: exactly(12),
  reportCuts: exactly(8),
  workerKills: exactly(5),
}

export function reportLine({ name, counts, losses, skipped }: FaultReport): string {
  if (skipped !== undefined) return `${name}: SKIPPED, ${skipped}`
  const counted = Object.entries(counts).map(([what, count]) => `${what} ${count}`)
  const lost = losses.slice(0, 10).map((loss) => `\n  LOST: ${loss}`)
  return `${name}: ${losses.length === 0 ? 'ok' : `${losses.length} LOSSES`} (${counted.join(', ')})${lost.join('')}`
}
