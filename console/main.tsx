import "./style/tokens.css";
import { render } from "preact";
import uPlot from "uplot";

console.log(uPlot);
render(<main>millrace</main>, document.getElementById("console")!);
