/** What a fault run found: what was counted, and every loss in words. A run without losses is a good one. */
export type FaultReport = { name: string; counts: Record<string, number>; losses: string[]; skipped?: string }

export type FaultScale = { kills: number; cuts: number; workerKills: number }
export const longRun: FaultScale = { kills: 150, cuts: 500, workerKills: 110 }
export const shortRun: FaultScale = { kills: 3, cuts: 12, workerKills: 5 }

export function reportLine({ name, counts, losses, skipped }: FaultReport): string {
  if (skipped !== undefined) return `${name}: SKIPPED, ${skipped}`
  const counted = Object.entries(counts).map(([what, count]) => `${what} ${count}`)
  const lost = losses.slice(0, 10).map((loss) => `\n  LOST: ${loss}`)
  return `${name}: ${losses.length === 0 ? 'ok' : `${losses.length} LOSSES`} (${counted.join(', ')})${lost.join('')}`
}
