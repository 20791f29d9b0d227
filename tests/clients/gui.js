// redis-commander in a browser without a screen: gui.js URL BROWSER PICTURE.
// It shows the keys, a hash's fields and a time to live; what it shows is kept as a picture.
const puppeteer = require("puppeteer-core");

const [url, browserPath, picture] = process.argv.slice(2);

async function main() {
  const browser = await puppeteer.launch({ executablePath: browserPath, headless: true, args: ["--no-sandbox", "--disable-gpu"] });
  try {
    const page = await browser.newPage();
    await page.setViewport({ width: 1200, height: 800 });
    await page.goto(url, { waitUntil: "load", timeout: 30000 });
    const shows = (text) => page.waitForFunction((text) => document.body.innerText.includes(text), { timeout: 20000 }, text);
    const click = async (text) => {
      await shows(text);
      const anchors = await page.$$("a.jstree-anchor");
      for (const anchor of anchors) {
        const label = await anchor.evaluate((element) => element.innerText.trim());
        if (label.startsWith(text)) {
          await anchor.click();
          return;
        }
      }
      throw new Error(`there is no ${text} in the tree`);
    };
    await shows("chave_1");
    await click("meu_hash");
    await shows("thailan");
    await shows("Recife");
    await page.screenshot({ path: picture });
    await click("curta");
    await shows("TTL");
    const text = await page.evaluate(() => document.body.innerText + [...document.querySelectorAll("input")].map((input) => input.value).join(" "));
    const ttl = text.match(/TTL[^0-9-]*([0-9]+)/);
    if (!ttl || !(Number(ttl[1]) > 0 && Number(ttl[1]) <= 1000)) throw new Error(`no time to live is shown: ${text}`);
    console.log(`redis-commander: keys, fields, a TTL of ${ttl[1]} s; see ${picture}`);
  } finally {
    await browser.close();
  }
}

main().catch((error) => { console.error(error); process.exit(1); });
