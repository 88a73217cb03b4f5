// Starts the console: styles, the two ways of asking the server, the pages.

import "uplot/dist/uPlot.min.css";
import "./style/tokens.css";
import "./style/base.css";
import "./style/user.css";
import "./style/charts.css";
import "./style/features.css";
import "./style/parameters.css";
import { render } from "preact";
import { App } from "./app.tsx";
import { follow, watchServer } from "./live/server.ts";
import { user } from "./live/user.ts";

watchServer();
follow(user.get());
user.watch(() => follow(user.get()));
render(<App />, document.getElementById("console")!);
