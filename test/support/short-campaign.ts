// Campaigns in their short form, as tests run them: what they log becomes diagnostics, and only counts are judged.

import type { TestContext } from 'node:test'
import { type CampaignOptions, type CampaignResult, met } from '../../campaigns/campaign.ts'

/** TENSORPRESS_CAMPAIGN_SEED runs another one. */
export function briefly(t: TestContext, folder: string): CampaignOptions {
  const seed = Number(process.env['TENSORPRESS_CAMPAIGN_SEED'] ?? 1)
  return { seed, folder, device: 'auto', log: (text) => t.diagnostic(text) }
}

export function countsUnmet(result: CampaignResult): string[] {
  return result.figures
    .filter((figure) => figure.unit === 'count' && !met(figure))
    .map((figure) => `${figure.name}: ${figure.value}, goal ${JSON.stringify(figure.goal)}`)
}
