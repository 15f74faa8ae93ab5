package tencentcloud

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
)

// request is one that was understood and is allowed.
type request struct {
	action, region string
	caller         *key
	parameters
}

// parameters are the union of what the actions take.
type parameters struct {
	RegistryID  string   `json:"RegistryId"`
	RegistryIDs []string `json:"Registryids"`
	TokenType   string   `json:"TokenType"`
	TokenID     string   `json:"TokenId"`
	Desc        string   `json:"Desc"`
	Enable      *bool    `json:"Enable"`
	ModifyFlag  *int     `json:"ModifyFlag"`
	Limit       *int     `json:"Limit"`
	Offset      int      `json:"Offset"`
	VPCSet      []struct {
		InstanceID      string `json:"InstanceId"`
		VPCID           string `json:"VpcId"`
		Address         string `json:"EniLBIp"`
		UsePublicDomain bool   `json:"UsePublicDomain"`
		RegionName      string `json:"RegionName"`
	} `json:"VpcSet"`
	ProviderID       string `json:"ProviderId"`
	WebIdentityToken string `json:"WebIdentityToken"`
	RoleArn          string `json:"RoleArn"`
	RoleSessionName  string `json:"RoleSessionName"`
	DurationSeconds  int64  `json:"DurationSeconds"`
}

// operation is an action of a service.
type operation struct {
	service, version string
	unsigned         bool
	run              func(*Cloud, request) (map[string]any, *fault)
}

var operations = map[string]operation{
	"AssumeRoleWithWebIdentity":         {"sts", "2018-08-13", true, (*Cloud).assumeRole},
	"CreateInstanceToken":               {"tcr", "2019-09-24", false, (*Cloud).createToken},
	"DescribeInstanceToken":             {"tcr", "2019-09-24", false, (*Cloud).listTokens},
	"ModifyInstanceToken":               {"tcr", "2019-09-24", false, (*Cloud).modifyToken},
	"DeleteInstanceToken":               {"tcr", "2019-09-24", false, (*Cloud).deleteToken},
	"DescribeInstances":                 {"tcr", "2019-09-24", false, (*Cloud).listRegistries},
	"DescribeInternalEndpoints":         {"tcr", "2019-09-24", false, (*Cloud).listLinks},
	"DescribeInternalEndpointDnsStatus": {"tcr", "2019-09-24", false, (*Cloud).dnsStatus},
}

// answer answers one request to the API.
func (c *Cloud) answer(w http.ResponseWriter, r *http.Request) {
	action := r.Header.Get("X-TC-Action")
	failure := c.failing(action)
	if failure != nil && failure.foreign() {
		c.record(Call{At: c.clock(), Action: action, Region: r.Header.Get("X-TC-Region"), Code: "none"})
	}
	if failure != nil && failure.instead(w, r) {
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 10<<20))
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	id, answered := c.respond(r, body, failure)
	data, err := json.Marshal(map[string]any{"Response": answered})
	if err != nil {
		panic(fmt.Sprintf("encoding an answer: %v", err))
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-TC-RequestId", id)
	w.Header().Set("Date", c.clock().UTC().Format(http.TimeFormat))
	if failure != nil && failure.Then != nil {
		failure.Then()
	}
	switch {
	case failure != nil && failure.Lost:
		panic(http.ErrAbortHandler)
	case failure != nil && failure.Cut:
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		_, _ = w.Write(data[:len(data)*3/4])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	_, _ = w.Write(data) // who asked may be gone
}

// record notes what was answered.
func (c *Cloud) record(call Call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls = append(c.calls, call)
}

// respond does what is asked for, unless it fails, and records that.
func (c *Cloud) respond(r *http.Request, body []byte, failure *Failure) (id string, response map[string]any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests++
	id = fmt.Sprintf("%08x-0000-4000-8000-%012x", c.requests, c.now().Unix())
	call := Call{At: c.now(), Action: r.Header.Get("X-TC-Action"), Region: r.Header.Get("X-TC-Region")}
	var wrong *fault
	if failure != nil && failure.Code != "" {
		wrong = &fault{failure.Code, failure.Message}
	} else {
		response, wrong = c.handle(r, body, &call)
	}
	if wrong != nil {
		call.Code = wrong.code
		response = map[string]any{"Error": map[string]any{"Code": wrong.code, "Message": wrong.message}}
	}
	response["RequestId"] = id
	c.calls = append(c.calls, call)
	return id, response
}

// handle checks a request in the order in which the API does, and runs it.
func (c *Cloud) handle(r *http.Request, body []byte, call *Call) (map[string]any, *fault) {
	operation, known := operations[call.Action]
	switch {
	case r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json":
		return nil, faultf("UnsupportedProtocol", "Only POST of application/json is supported.")
	case !known:
		return nil, faultf("InvalidAction", "The request interface %q does not exist.", call.Action)
	case r.Header.Get("X-TC-Version") != operation.version:
		return nil, faultf("NoSuchVersion", "The version is not one of this service.")
	case call.Region == "":
		return nil, faultf("MissingParameter", "The request is missing the required parameter `Region`.")
	}
	asked := request{action: call.Action, region: call.Region}
	call.Service = operation.service
	if !operation.unsigned {
		caller, service, wrong := c.authenticate(r, body)
		if wrong != nil {
			return nil, wrong
		}
		if service != operation.service {
			return nil, faultf("AuthFailure.SignatureFailure", "The credential scope is of another service.")
		}
		asked.caller, call.Caller = caller, caller.SecretID
	} else if r.Header.Get("Authorization") != "SKIP" {
		return nil, faultf("AuthFailure.InvalidAuthorization", "This request is not signed: its Authorization is SKIP.")
	}
	if err := json.Unmarshal(body, &asked.parameters); err != nil {
		return nil, faultf("InvalidParameter", "The body is not JSON of this action.")
	}
	call.Registry = asked.RegistryID
	if wrong := c.limited(call.Action); wrong != nil {
		return nil, wrong
	}
	return operation.run(c, asked)
}

// limited counts a request, and refuses it where there were too many in this second.
func (c *Cloud) limited(action string) *fault {
	if second := c.now().Unix(); second != c.second {
		c.second = second
		clear(c.spent)
	}
	rate := 20
	if action == "CreateInstanceToken" {
		rate = 100
	}
	if set, found := c.rates[action]; found {
		rate = set
	}
	if c.spent[action]++; c.spent[action] > rate {
		return faultf("RequestLimitExceeded",
			"Your current request times equals to `%d` in a second, which exceeds the frequency limit `%d` for a second.",
			c.spent[action], rate)
	}
	return nil
}
