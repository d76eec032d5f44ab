package policy_test
import ("testing";"time";"strings";"fmt"
"github.com/claudefs/claudefs/policy")
func TestProbe(t *testing.T){
 base:="version: 1\nrules:\n  - name: a\n    match: {%s}\n    allow: {level: shared}\n"
 cases:=map[string]string{
 "host null": fmt.Sprintf(base,"host: "),
 "tree null": fmt.Sprintf(base,"tree: "),
 "tree empty": fmt.Sprintf(base,"tree: []"),
 "tree int": fmt.Sprintf(base,"tree: 5"),
 "tree bool": fmt.Sprintf(base,"tree: true"),
 "tree list mixed": fmt.Sprintf(base,"tree: [a, 5, null]"),
 "tree map": fmt.Sprintf(base,"tree: {a: b}"),
 "container null": fmt.Sprintf(base,"container: "),
 "uid neg": fmt.Sprintf(base,"host: {uid: [-1]}"),
 "uid big": fmt.Sprintf(base,"host: {uid: [4294967296]}"),
 "uid str": fmt.Sprintf(base,"host: {uid: [\"1000\"]}"),
 "uid float": fmt.Sprintf(base,"host: {uid: [1.5]}"),
 "uid scalar": fmt.Sprintf(base,"host: {uid: 1000}"),
 "version str": strings.Replace(fmt.Sprintf(base,"tree: a"),"version: 1","version: \"1\"",1),
 "version float": strings.Replace(fmt.Sprintf(base,"tree: a"),"version: 1","version: 1.9",1),
 "version null": strings.Replace(fmt.Sprintf(base,"tree: a"),"version: 1","version:",1),
 "dup key": fmt.Sprintf(base,"tree: a, tree: b"),
 "dup quoted": fmt.Sprintf(base,"tree: a, \"tree\": b"),
 "dup esc": fmt.Sprintf(base,"tree: a, \"\\x74ree\": b"),
 "dup block": "version: 1\nversion: 1\nrules: []\n",
 "dup block quoted": "version: 1\n\"version\": 1\nrules: []\n",
 "case": "version: 1\nRules: []\n",
 "case2": "version: 1\nrules: []\nRules: []\n",
 "labels dup": fmt.Sprintf(base,"container: {labels: {a: b, a: c}}"),
 "labels dup q": fmt.Sprintf(base,"container: {labels: {a: b, 'a': c}}"),
 "labels int": fmt.Sprintf(base,"container: {labels: {1: b, '1': c}}"),
 "empty first doc": "---\n---\n"+fmt.Sprintf(base,"tree: a"),
 "comment first doc": "# hello\n---\n"+fmt.Sprintf(base,"tree: a"),
 "docs": fmt.Sprintf(base,"tree: a")+"---\n"+fmt.Sprintf(base,"tree: a"),
 "doc end": fmt.Sprintf(base,"tree: a")+"...\n"+fmt.Sprintf(base,"tree: a"),
 "anchor": "version: 1\nrules: &a\n  - name: x\n    deny: y\n",
 "alias": "version: 1\nrules: *a\n",
 "tag": "version: !!int 1\nrules:\n  - name: x\n    deny: y\n",
 "merge": "version: 1\n<<: {rules: []}\n",
 "merge list": "version: 1\nrules:\n  - <<: {name: x}\n    deny: y\n",
 "deepdash": "version: 1\nrules:\n  "+strings.Repeat("- ",3000)+"a\n",
 "deepq": "version: 1\nrules:\n  "+strings.Repeat("? ",3000)+"a\n",
 "brackets hidden": "# "+strings.Repeat("]",1000)+"\nversion: 1\nrules: "+strings.Repeat("[",900)+"\n",
 "tab": "version: 1\nrules:\n\t- name: a\n",
 "bom": "\ufeffversion: 1\nrules:\n  - name: x\n    deny: y\n",
 "crlf": "version: 1\r\nrules:\r\n  - name: x\r\n    deny: y\r\n",
 "badutf8": "version: 1\nrules:\n  - name: \"\xff\xfe\"\n    deny: y\n",
 "complex key": "version: 1\n? [a,b]\n: c\n",
 "name int": "version: 1\nrules:\n  - name: 5\n    deny: 7\n",
 "deny bool": "version: 1\nrules:\n  - name: a\n    deny: true\n",
 "rules map": "version: 1\nrules: {a: b}\n",
 "rule str": "version: 1\nrules: [a]\n",
 "rule null": "version: 1\nrules: [null]\n",
 "top list": "- a\n", "top str": "hello\n", "ctl":"version: 1\nrules:\n  - name: \"a\\e[31m\"\n    deny: y\n",
 "refresh null": "version: 1\nrules:\n  - name: a\n    allow: {level: shared, refresh_token: null}\n",
 "directive":"%YAML 1.2\n---\nversion: 1\nrules:\n  - name: x\n    deny: y\n",
 "allow null deny":"version: 1\nrules:\n  - name: x\n    allow:\n    deny: y\n",
 "nested deep block": func() string { var b strings.Builder; b.WriteString("version: 1\nrules:\n"); for i:=0;i<200;i++ { b.WriteString(strings.Repeat(" ",i)+"a:\n")}; return b.String()}(),
 "inline pairs": "version: 1\nrules: [a: b, c: d]\n",
 "glob": fmt.Sprintf(base,"tree: \"a[\""),
 "longline": "version: 1\nrules:\n  - name: x\n    deny: "+strings.Repeat("y",3000)+"\n    foo: a\n",
 }
 for n,s:=range cases {
  st:=time.Now()
  func(){ defer func(){ if r:=recover(); r!=nil { t.Logf("=== %s: PANIC %v",n,r)}}()
  p,err:=policy.Parse("p.yaml",[]byte(s))
  e:="" ; if err!=nil {e=err.Error(); if len(e)>600{e=e[:600]}}
  t.Logf("=== %s (%v): ok=%v %s",n,time.Since(st).Round(time.Millisecond),err==nil,e); if err==nil { t.Logf("   %+v",p.Rules)}
  }()
 }
}
