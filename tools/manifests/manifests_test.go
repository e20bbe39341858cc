// Package manifests holds deploy/kubernetes to Kubernetes's own types.
package manifests

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// documents are those of the manifests, by file.
func documents(t *testing.T) map[string][][]byte {
	t.Helper()
	files, err := filepath.Glob("../../deploy/kubernetes/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no manifests: %v", err)
	}
	all := map[string][][]byte{}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, document := range bytes.Split(b, []byte("\n---\n")) {
			all[filepath.Base(file)] = append(all[filepath.Base(file)], document)
		}
	}
	return all
}

// strict decodes as an API server does that was asked to validate (fieldValidation=Strict): no unknown field, none twice,
// no other case.
func strict(document []byte, into any) error {
	j, err := yaml.YAMLToJSONStrict(document)
	if err != nil {
		return err
	}
	unknown, err := kjson.UnmarshalStrict(j, into)
	return errors.Join(append(unknown, err)...)
}

// TestManifests: each document is of a kind that is known here, and has no field and no type of value that the API
// server would refuse. What the server demands beyond that is asked for by hand.
func TestManifests(t *testing.T) {
	for file, all := range documents(t) {
		for _, document := range all {
			var head struct{ APIVersion, Kind string }
			if err := yaml.Unmarshal(document, &head); err != nil {
				t.Errorf("%s: %v", file, err)
				continue
			}
			switch head.APIVersion + " " + head.Kind {
			case "apps/v1 DaemonSet":
				var d appsv1.DaemonSet
				if err := strict(document, &d); err != nil {
					t.Errorf("%s: %v", file, err)
					continue
				}
				daemonSet(t, file, &d)
			default:
				t.Errorf("%s: %s %s: say here how it is validated", file, head.APIVersion, head.Kind)
			}
		}
	}
}

var dnsLabel = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

// daemonSet asks for what ValidateDaemonSet of k8s.io/kubernetes asks for, of what the manifest uses.
func daemonSet(t *testing.T, file string, d *appsv1.DaemonSet) {
	t.Helper()
	check := func(ok bool, what string) {
		t.Helper()
		if !ok {
			t.Errorf("%s: %s", file, what)
		}
	}
	check(dnsLabel.MatchString(d.Name) && dnsLabel.MatchString(d.Namespace), "names are DNS labels")
	check(d.Spec.Selector != nil && len(d.Spec.Selector.MatchLabels) > 0, "a selector is required")
	for key, value := range d.Spec.Selector.MatchLabels {
		check(d.Spec.Template.Labels[key] == value, "the selector does not match the labels of the template: "+key)
	}
	pod := &d.Spec.Template.Spec
	check(pod.RestartPolicy == "" || pod.RestartPolicy == corev1.RestartPolicyAlways, "restartPolicy of a DaemonSet is Always")
	check(!pod.HostNetwork || pod.DNSPolicy == corev1.DNSClusterFirstWithHostNet || pod.DNSPolicy == corev1.DNSDefault, "dnsPolicy on the host's network")
	for _, toleration := range pod.Tolerations {
		check(toleration.Operator != corev1.TolerationOpExists || toleration.Value == "", "a toleration that Exists has no value")
		check(toleration.Key != "" || toleration.Operator == corev1.TolerationOpExists, "a toleration without a key must be Exists")
	}
	volumes := map[string]*corev1.Volume{}
	for i := range pod.Volumes {
		v := &pod.Volumes[i]
		check(dnsLabel.MatchString(v.Name) && volumes[v.Name] == nil, "volumes have names of their own: "+v.Name)
		check(v.HostPath != nil && strings.HasPrefix(v.HostPath.Path, "/"), "a volume of a path of the host: "+v.Name)
		if v.HostPath != nil && v.HostPath.Type != nil {
			known := []corev1.HostPathType{corev1.HostPathUnset, corev1.HostPathDirectoryOrCreate, corev1.HostPathDirectory, corev1.HostPathFileOrCreate, corev1.HostPathFile, corev1.HostPathSocket, corev1.HostPathCharDev, corev1.HostPathBlockDev}
			check(slices.Contains(known, *v.HostPath.Type), "type of the volume "+v.Name)
		}
		volumes[v.Name] = v
	}
	check(len(pod.Containers) > 0, "no container")
	for _, c := range pod.Containers {
		check(dnsLabel.MatchString(c.Name) && c.Image != "", "a container has a name and an image")
		check(slices.Contains([]corev1.PullPolicy{"", corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever}, c.ImagePullPolicy), "imagePullPolicy")
		mounted := map[string]bool{}
		for _, m := range c.VolumeMounts {
			check(volumes[m.Name] != nil, "no volume "+m.Name)
			check(strings.HasPrefix(m.MountPath, "/") && !mounted[m.MountPath], "mount path "+m.MountPath)
			mounted[m.MountPath] = true
		}
		for name, request := range c.Resources.Requests {
			if limit, ok := c.Resources.Limits[name]; ok {
				check(request.Cmp(limit) <= 0, "more of "+string(name)+" is asked for than allowed")
			}
		}
		for _, probe := range []*corev1.Probe{c.ReadinessProbe, c.LivenessProbe, c.StartupProbe} {
			if probe == nil {
				continue
			}
			ways := 0
			for _, is := range []bool{probe.Exec != nil, probe.HTTPGet != nil, probe.TCPSocket != nil, probe.GRPC != nil} {
				if is {
					ways++
				}
			}
			check(ways == 1, "a probe has one way")
			check(probe.TimeoutSeconds >= 0 && probe.PeriodSeconds >= 0, "times of a probe")
		}
		if s := c.SecurityContext; s != nil {
			check(s.Privileged == nil || !*s.Privileged || s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation, "privileged and no escalation exclude each other")
			if s.Capabilities != nil {
				for _, capability := range append(slices.Clone(s.Capabilities.Add), s.Capabilities.Drop...) {
					check(!strings.HasPrefix(string(capability), "CAP_"), "capabilities have no CAP_ here: "+string(capability))
				}
			}
			if s.SeccompProfile != nil {
				check((s.SeccompProfile.Type == corev1.SeccompProfileTypeLocalhost) == (s.SeccompProfile.LocalhostProfile != nil), "seccompProfile")
			}
		}
	}
}

// TestRefused: what is wrong is found.
func TestRefused(t *testing.T) {
	good := documents(t)["daemonset.yaml"][0]
	for from, to := range map[string]string{
		"hostNetwork: true":       "hostNetwrok: true",
		"periodSeconds: 10":       "periodSeconds: ten",
		"maxUnavailable: 1":       "maxUnavailable: [1]",
		"readOnlyRootFilesystem:": "readOnlyRootFileSystem:",
	} {
		bad := strings.Replace(string(good), from, to, 1)
		if bad == string(good) {
			t.Errorf("no %s in the manifest", from)
			continue
		}
		var d appsv1.DaemonSet
		if err := strict([]byte(bad), &d); err == nil {
			t.Errorf("%s is not found", to)
		}
	}
}
