// redis-commander in a browser without a screen: gui.js URL BROWSER PICTURE.
// It shows the keys, a hash's fields and a time to live; what it shows is kept as a picture.
const puppeteer = require("puppeteer-core");

const [url, browserPath, picture] = process.argv.slice(2);

// What a browser asks of its makers at start would wait for an answer on a closed network.
const ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync"];
// Looked at again after a while, and not when a frame is drawn: without a screen that may be long in coming.
const WAIT = { timeout: 60000, polling: 200 };

async function main() {
  const browser = await puppeteer.launch({ executablePath: browserPath, headless: true, args: ARGUMENTS });
  const page = await browser.newPage();
  const said = [];
  page.on("console", (message) => said.push(message.text()));
  page.on("pageerror", (error) => said.push(String(error)));
  page.on("requestfailed", (request) => said.push(`${request.url()}: ${request.failure().errorText}`));
  try {
    await page.setViewport({ width: 1200, height: 800 });
    await page.evaluateOnNewDocument(() => {
      const values = () => [...document.querySelectorAll("input, textarea")].map((one) => one.value);
      window.allText = () => [document.body?.innerText, ...values()].join(" ");
    });
    await page.goto(url, { waitUntil: "load", timeout: WAIT.timeout });
    const shows = (text, wait = WAIT) => page.waitForFunction((text) => allText().includes(text), wait, text);
    // Again and again, since whoever comes for the first time is signed in, and the page loads itself once more; and by an event and not by the mouse,
    // since the tree unfolds, and what is aimed at moves.
    const select = async (key, text) => {
      for (let tries = 12; ; tries -= 1) {
        await shows(key);
        await page.evaluate((key) => {
          const anchors = [...document.querySelectorAll("a.jstree-anchor")];
          anchors.find((anchor) => anchor.innerText.trim().startsWith(key))?.click();
        }, key);
        try {
          return await shows(text, { ...WAIT, timeout: 5000 });
        } catch (error) {
          if (tries === 0) throw error;
        }
      }
    };
    await shows("chave_1");
    await select("meu_hash", "thailan");
    await shows("Recife");
    await page.screenshot({ path: picture });
    await select("curta", "vida");
    const text = await page.evaluate(() => allText());
    const ttl = text.match(/TTL[^0-9-]*([0-9]+)/);
    if (!ttl || !(Number(ttl[1]) > 0 && Number(ttl[1]) <= 1000)) throw new Error(`no time to live is shown: ${text}`);
    console.log(`redis-commander: keys, fields, a TTL of ${ttl[1]} s; see ${picture}`);
  } catch (error) {
    await page.screenshot({ path: picture });
    console.error("the page shows:", await page.evaluate(() => allText()), "and has said:", said);
    throw error;
  } finally {
    await browser.close();
  }
}

main().catch((error) => { console.error(error); process.exit(1); });
