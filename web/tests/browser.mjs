// Chromium for the tests: Debian's, which asks nobody anything; a page that remembers its errors.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { chromium } from 'playwright-core';

const axeSource = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

export function launch() {
  return chromium.launch({
    executablePath: process.env.DRRIK_CHROMIUM ?? '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
  });
}

/** A page in a context of its own; `errors` holds whatever its console complained of. */
export async function openPage(browser, address, { width = 1320, height = 860, colorScheme = 'light', ...rest } = {}) {
  const context = await browser.newContext({ viewport: { width, height }, colorScheme, acceptDownloads: true, ...rest });
  const page = await context.newPage();
  page.setDefaultTimeout(15000);
  page.errors = [];
  page.asked = [];
  page.on('console', (message) => { if (['error', 'warning'].includes(message.type())) page.errors.push(`${message.type()}: ${message.text()}`); });
  page.on('pageerror', (error) => page.errors.push(String(error)));
  page.on('request', (request) => page.asked.push(request.url()));
  await page.goto(address);
  await page.waitForFunction(() => performance.getEntriesByName('drrik-ready').length > 0);
  return page;
}

/** What axe finds wrong, one line each. */
export async function axe(page) {
  // Through the protocol, which the page's policy does not bind.
  await page.evaluate(axeSource);
  return page.evaluate(async () => {
    const { violations } = await window.axe.run(document, { resultTypes: ['violations'] });
    return violations.flatMap((rule) => rule.nodes.map((node) => `${rule.id}: ${node.target.join(' ')}: ${node.failureSummary.replace(/\s+/g, ' ')}`));
  });
}
